# syntax=docker/dockerfile:1
FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/guardian
COPY pyproject.toml README.md LICENSE ./
COPY guardian ./guardian
RUN /opt/guardian/bin/pip install --no-cache-dir --disable-pip-version-check .

FROM python:3.13-slim
# The record of payments lives in /data; without a volume there it is lost with the container.
RUN useradd --system --uid 10402 --home-dir /data guardian \
 && install --directory --owner=guardian --group=guardian --mode=0700 /data
COPY --from=build /opt/guardian /opt/guardian
COPY policies /etc/guardian
ENV PATH=/opt/guardian/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    GUARDIAN_POLICY=/etc/guardian/default.yaml \
    GUARDIAN_LISTEN=0.0.0.0:8402 \
    GUARDIAN_OPS_LISTEN=0.0.0.0:9402 \
    GUARDIAN_STORE=sqlite:////data/guardian.db
USER guardian
WORKDIR /data
VOLUME /data
EXPOSE 8402 9402
HEALTHCHECK --interval=10s --timeout=3s CMD ["python", "-c", \
  "import urllib.request as r; r.urlopen('http://127.0.0.1:9402/healthz', timeout=2)"]
ENTRYPOINT ["guardian"]
CMD ["serve"]
