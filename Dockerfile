# A static binary in an image that has nothing else but CA certificates.

FROM rust:1.95-slim-bookworm AS build
# The crypto library and the allocator are C.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates cmake gcc libc6-dev make \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Static glibc: names are resolved by the binary itself, so nothing is loaded at run time. The
# target is named because flags would otherwise reach build scripts and macros as well.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    target="$(rustc -vV | sed -n 's/^host: //p')" \
 && RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --release --locked --bin portcullis --target "$target" \
 && install -D -s "target/$target/release/portcullis" /out/portcullis

FROM scratch
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Portcullis" \
      org.opencontainers.image.description="An HTTP reverse proxy that never reloads" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/portcullis /portcullis
USER 65532:65532
# HTTP, HTTPS, and the admin listener, which is on loopback unless configured otherwise.
EXPOSE 8080 8443 9900
# Where the admin listener is elsewhere, PORTCULLIS_ADMIN tells the process and the check alike.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["/portcullis", "status"]
ENTRYPOINT ["/portcullis"]
CMD ["run", "--config", "/etc/portcullis"]
