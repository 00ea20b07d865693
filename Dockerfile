# Kao in a container: built with Rust on Debian, run on Debian by a user without rights.
#
#   docker build -t kao .
#   docker run --rm -v "$PWD:/work" --user "$(id -u):$(id -g)" kao sample --count 16 --out faces.png
#   docker build --target tests -t kao-tests .          # the tests, in the container
#
# Debian's own Rust is older than the one that Kao needs (rust-version in Cargo.toml), so the build
# stage is Debian with Rust as Rust's maintainers package it.
FROM rust:1.95-slim-bookworm AS source
WORKDIR /src
COPY . .

# The tests of the program and of the library.
FROM source AS tests
RUN useradd --create-home tester && chown -R tester /src
USER tester
RUN cargo test --release --workspace

FROM source AS build
# Cargo features of the program, such as "studio" or "hub".
ARG FEATURES=""
RUN cargo build --release --locked -p kao-cli --features "$FEATURES" \
    && cp target/release/kao /usr/local/bin/kao

FROM debian:bookworm-slim
COPY --from=build /usr/local/bin/kao /usr/local/bin/kao
# Pictures that do not fit in memory are kept below the home folder, or in --cache-dir.
RUN useradd --uid 10001 --create-home kao
USER kao
WORKDIR /work
ENTRYPOINT ["kao"]
CMD ["--help"]
