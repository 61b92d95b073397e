# The image for all roles: a static binary, without a shell, that does not run as root.
#
# Both base images are build arguments, so that you can use your own. The build image
# needs Go 1.26, make and a shell. The run image needs only CA certificates.
ARG BUILD_IMAGE=golang:1.26.8-bookworm
ARG RUN_IMAGE=gcr.io/distroless/static-debian12:nonroot

FROM ${BUILD_IMAGE} AS build
ENV CGO_ENABLED=0 GOWORK=off GOFLAGS=-buildvcs=false
WORKDIR /src

# Modules first: they change less often than the code, so their layer stays cached.
COPY go.mod go.sum ./
RUN go mod download

COPY . .
ARG COMMIT=
RUN make build COMMIT="${COMMIT}"
# A new volume takes the owner of the directory it is mounted on, so that the user
# below can write to /keys.
WORKDIR /out/keys

FROM ${RUN_IMAGE}
ARG VERSION=unknown
LABEL org.opencontainers.image.title="usher" \
      org.opencontainers.image.description="Connection broker for games and realtime applications" \
      org.opencontainers.image.source="https://github.com/usher-broker/usher" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /src/bin/usher /usher
COPY --from=build --chown=65532:65532 /out/keys /keys
# A numeric user, so that Kubernetes can check that it is not root.
USER 65532:65532
ENTRYPOINT ["/usher"]
