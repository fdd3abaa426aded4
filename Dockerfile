# A small image with one binary:
#   docker build -t weir .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" -v weir-state:/var/lib/weir weir run job.json
# The first build takes more than an hour of one core.
# The volume `weir-state` keeps what a later `weir run --resume` and `weir runs` ask for.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /weir
COPY . .
# What was fetched and built stays for the next image, so that a change of the sources builds no dependency again.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/weir/target \
    cargo build --release --locked --bin weir && cp target/release/weir /usr/local/bin/weir

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates tzdata \
    && rm -rf /var/lib/apt/lists/* && useradd --create-home weir \
    # Whoever `--user` names may write here.
    && install -d -m 1777 /var/lib/weir
ENV WEIR_STATE_DIR=/var/lib/weir
COPY --from=build /usr/local/bin/weir /usr/local/bin/weir
USER weir
WORKDIR /data
ENTRYPOINT ["weir"]
