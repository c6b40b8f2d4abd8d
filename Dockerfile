# syntax=docker/dockerfile:1

# The gateway with embedded defaults:   docker build -t holdfast . && docker run --rm -p 8080:8080 holdfast --upstream http://HOST:PORT
# What it keeps (captured requests, mitmproxy's own certificates) is in the volume /data; nothing else is written, so it
# runs with a read-only root file system. The control surface stays on the container's own 127.0.0.1:9900 until a profile
# or --admin says otherwise, and then it asks for a token.

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# The locked dependencies first: they change less often than the code, and stay cached when only that does.
COPY requirements/ requirements/
RUN python -m venv /opt/holdfast \
    && /opt/holdfast/bin/pip install --require-hashes -r requirements/runtime.txt \
    && pip install --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY profiles/ profiles/
COPY addons/ addons/
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
    && /opt/holdfast/bin/pip install --no-deps /dist/*.whl \
    && /opt/holdfast/bin/pip check \
    && /opt/holdfast/bin/pip uninstall --yes pip

FROM python:3.13-slim
LABEL org.opencontainers.image.title="Holdfast" \
      org.opencontainers.image.description="A fault-tolerant gateway made of mitmproxy addons" \
      org.opencontainers.image.licenses="MIT"
RUN groupadd --gid 10001 holdfast \
    && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin holdfast \
    && install --directory --owner=10001 --group=10001 --mode=0750 /data
COPY --from=build /opt/holdfast /opt/holdfast
ENV PATH=/opt/holdfast/bin:$PATH \
    HOME=/data \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9900/healthz', timeout=2)"]
# A container's 127.0.0.1 is of no use to anybody else. A later --listen wins.
ENTRYPOINT ["holdfast", "run", "--listen", "0.0.0.0:8080"]
