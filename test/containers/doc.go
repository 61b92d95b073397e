// Package containers tests the Dockerfile and docker-compose.yml as they are, in a
// Docker engine, with clients on the host. It is skipped unless USHER_CONTAINERS is
// set. It needs a Docker engine, docker-compose and Linux.
//
// No image is pulled: substitutes for the base images are built from files of this
// machine. BUILD_IMAGE, RUN_IMAGE and REDIS_IMAGE name real images instead.
package containers
