// Package containers tests the Dockerfile and docker-compose.yml, as they are,
// in a real engine, against clients on the host. It is skipped unless
// USHER_CONTAINERS is set, and needs a Docker engine, docker-compose and Linux.
//
// Nothing is pulled: stand-ins for the base images are made of files of this
// machine. BUILD_IMAGE, RUN_IMAGE and REDIS_IMAGE name real ones instead.
package containers
