# Bursar in a container: docs/deploy.md. One image serves every role; ROLES chooses.
FROM debian:bookworm-slim AS base
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/*

FROM base AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/bursar
COPY requirements.txt ./
RUN python3 -m venv .venv \
 && .venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --requirement requirements.txt \
 && .venv/bin/pip uninstall --yes --quiet pip setuptools
COPY manage.py LICENSE ./
COPY keys keys
COPY usage usage
COPY reconciliation reconciliation
COPY messages_api messages_api
COPY billing billing
COPY administration administration
COPY gateway_project gateway_project
COPY templates templates
RUN .venv/bin/python -m compileall -q .

FROM base
COPY --from=build /opt/bursar /opt/bursar
# The only folder that is written, with /tmp: the rest may be mounted read-only.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/bursar --shell /usr/sbin/nologin bursar \
 && install --directory --owner=bursar --group=bursar --mode=0700 /var/lib/bursar
USER 10001:10001
WORKDIR /opt/bursar
ENV VAR_DIR=/var/lib/bursar HOST=0.0.0.0 PORT=8000 PYTHONUNBUFFERED=1
VOLUME /var/lib/bursar
EXPOSE 8000
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/bursar/.venv/bin/python", "-m", "gateway_project.supervisor"]
