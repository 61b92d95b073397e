# The one image of all roles: a static binary, no shell, not root.
#
# Both bases are build arguments, for those who keep their own. The build needs
# Go 1.26, make and a shell; the run image needs nothing, CA certificates apart.
ARG BUILD_IMAGE=golang:1.26.8-bookworm
ARG RUN_IMAGE=gcr.io/distroless/static-debian12:nonroot

FROM ${BUILD_IMAGE} AS build
ENV CGO_ENABLED=0 GOWORK=off GOFLAGS=-buildvcs=false
WORKDIR /src

# Modules first: they change less often than the code, and their layer is kept.
COPY go.mod go.sum ./
RUN go mod download

COPY . .
ARG VERSION=unknown
RUN make build VERSION="${VERSION}"
# A volume mounted over an empty directory takes its owner: /keys can be written.
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
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
ENTRYPOINT ["/usher"]
