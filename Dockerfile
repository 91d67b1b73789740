# One recipe for every image. The service is a build argument, and so is the base:
#
#   docker build --build-arg SERVICE=ranking --tag winnow-ranking .
#   docker build --build-arg SERVICE=training --build-arg EXTRA=training --target training --tag winnow-training .
#   docker build --build-arg SERVICE=jobs --build-arg EXTRA=data --target jobs --tag winnow-jobs .
#
# Where packages come from is no part of it: `--secret id=pip,src=pip.conf` says it to the build and to nothing else.

ARG BASE=docker.io/library/python:3.11.14-slim-bookworm
# Has Python's venv and pip; no layer of it is in an image.
ARG BUILDER=${BASE}

FROM ${BUILDER} AS build
# strip, of symbols that only a debugger reads
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*
WORKDIR /src
ARG SERVICE=serving
# An extra of pyproject.toml; the five services have one of their own name.
ARG EXTRA=${SERVICE}
COPY pyproject.toml requirements.lock ./
COPY scripts/environment.py scripts/environment.py
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3.11 -m venv /opt/winnow && /opt/winnow/bin/python scripts/environment.py install "${EXTRA}"
COPY . .
RUN /opt/winnow/bin/python deploy/image/assemble.py "${SERVICE}" /src /opt/winnow

FROM ${BASE} AS runtime
ARG SERVICE=serving
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="winnow-${SERVICE}" \
      org.opencontainers.image.description="Winnow, a self-hosted, real-time recommendation platform: ${SERVICE}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN groupadd --gid 10001 winnow \
    && useradd --uid 10001 --gid 10001 --no-log-init --home-dir /tmp --no-create-home --shell /usr/sbin/nologin winnow \
    && install --directory --owner winnow --group winnow /var/lib/winnow /var/lib/winnow/home /var/lib/winnow/models
# The root file system may be read-only: only /tmp and the volumes below /var/lib/winnow are written.
ENV PATH=/opt/winnow/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONPATH=/opt/winnow/code \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    USER=winnow \
    DO_NOT_TRACK=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    ORT_DISABLE_TELEMETRY=1 \
    OMP_WAIT_POLICY=PASSIVE \
    WINNOW_HOME=/var/lib/winnow/home \
    WINNOW_SERVICE=${SERVICE}
WORKDIR /var/lib/winnow
STOPSIGNAL SIGTERM

# Spark runs on Java.
FROM runtime AS jobs
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openjdk-17-jre-headless procps \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY --from=build /opt/winnow /opt/winnow
USER 10001:10001
HEALTHCHECK NONE
ENTRYPOINT ["python", "-m"]
CMD ["jobs.stream", "--help"]

# The command line: ingest, train, refresh, promote.
FROM runtime AS training
COPY --from=build /opt/winnow /opt/winnow
USER 10001:10001
HEALTHCHECK NONE
ENTRYPOINT ["python", "-m", "cli"]
CMD ["--help"]

# The registry as a server of its own; compose.yaml does with the image above.
FROM runtime AS mlflow
COPY --from=build /opt/winnow /opt/winnow
USER 10001:10001
EXPOSE 5000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:5000/health', timeout=4)"]
ENTRYPOINT ["python", "-m", "mlflow", "server"]
CMD ["--help"]

FROM runtime AS service
COPY --from=build /opt/winnow /opt/winnow
USER 10001:10001
EXPOSE 8080 50050 50051 50052 50053 50054
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "/opt/winnow/code/entry.py", "probe"]
ENTRYPOINT ["python", "/opt/winnow/code/entry.py", "serve"]
