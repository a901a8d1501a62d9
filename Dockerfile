# syntax=docker/dockerfile:1
# camring in a container: docker build --tag camring . ; how to run it: compose.yaml.

FROM rust:1.95-bookworm AS build
# Versions are those of the Debian release that is named above: it only gets fixes.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends \
      clang libclang-dev pkg-config libavcodec-dev libavformat-dev libavutil-dev libswscale-dev nodejs npm \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /camring
COPY . .
RUN npm --prefix web ci --no-audit --no-fund --ignore-scripts \
 && npm --prefix web run build \
 && cargo build --release --locked --package camring --bin camring \
 && strip target/release/camring

FROM debian:bookworm-slim
# FFmpeg's libraries as the build had them.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends \
      ca-certificates libavcodec59 libavformat59 libavutil57 libswscale6 \
 && rm -rf /var/lib/apt/lists/* \
 # The numbers are fixed, so that detectors in other containers can be given the group.
 && groupadd --gid 10001 camring \
 && useradd --uid 10001 --gid camring --home-dir /var/lib/camring --shell /usr/sbin/nologin camring \
 && install -d -o root -g camring -m 750 /etc/camring \
 && install -d -o camring -g camring -m 750 /var/lib/camring /run/camring
COPY --from=build /camring/target/release/camring /usr/bin/camring
COPY --from=build /camring/LICENSE-APACHE /camring/LICENSE-MIT /usr/share/doc/camring/
USER 10001:10001
# Recordings; the socket where detectors attach.
VOLUME ["/var/lib/camring", "/run/camring"]
# Says goodbye to the cameras, and ends all processes within 5 s.
STOPSIGNAL SIGTERM
# Whether the daemon answers; which cameras send is in `camring status` itself.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
  CMD ["camring", "status", "--json"]
ENTRYPOINT ["/usr/bin/camring"]
CMD ["run"]
