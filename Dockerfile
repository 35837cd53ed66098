# The image of web, worker and migrate. `docker build --tag stonechat .`

FROM python:3.13-slim AS build
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 UV_LINK_MODE=copy UV_NO_CACHE=1
COPY requirements-build.lock requirements.lock ./
RUN pip install --quiet --require-hashes -r requirements-build.lock \
 && python -m venv --without-pip /opt/stonechat \
 && uv pip install --quiet --python /opt/stonechat/bin/python --compile-bytecode --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY platform platform
COPY admin admin
COPY migrations migrations
COPY docs/guide docs/guide
RUN hatchling build --target wheel --directory dist \
 && uv pip install --quiet --python /opt/stonechat/bin/python --compile-bytecode --no-deps dist/*.whl

FROM python:3.13-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/stonechat --shell /usr/sbin/nologin stonechat
COPY --from=build /opt/stonechat /opt/stonechat
COPY docker/entrypoint.sh /usr/local/bin/stonechat-entrypoint
ENV PATH=/opt/stonechat/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    STONECHAT_DATA_DIR=/var/lib/stonechat \
    PORT=8000
WORKDIR /var/lib/stonechat
USER stonechat
VOLUME /var/lib/stonechat
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/healthz', timeout=4)"]
ENTRYPOINT ["stonechat-entrypoint"]
CMD ["stonechat", "serve", "--host", "0.0.0.0"]
