# A small image with one binary: `docker build -t weir . && docker run --rm -v "$PWD:/data" weir run job.json`
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /weir
COPY . .
RUN cargo build --release --locked --bin weir

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates tzdata \
    && rm -rf /var/lib/apt/lists/* && useradd --create-home weir
COPY --from=build /weir/target/release/weir /usr/local/bin/weir
USER weir
WORKDIR /data
ENTRYPOINT ["weir"]
