# syntax=docker/dockerfile:1
# The guardian as an image: a first stage with the tools, and of it only what runs, without shell and tools.
# `make image` builds and tries it, docs/deployment.md says how it is run.
#
# The base can be pinned to the byte: --build-arg BASE=python:3.13.13-slim-trixie@sha256:…
ARG BASE=python:3.13.13-slim-trixie

FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
# Halves the compiled packages, which come with symbols for debuggers.
RUN command -v strip >/dev/null || { apt-get update && apt-get install --yes --no-install-recommends binutils; }
COPY image/requirements.txt image/build-requirements.txt image/
# Both secrets are optional: a mirror's pip.conf, and the certificates of a proxy. They stay out of the image.
RUN --mount=type=secret,id=pip --mount=type=secret,id=certificates \
    if [ -s /run/secrets/pip ]; then export PIP_CONFIG_FILE=/run/secrets/pip; fi \
 && if [ -s /run/secrets/certificates ]; then export PIP_CERT=/run/secrets/certificates; fi \
 && python3 -m venv /opt/tools \
 && /opt/tools/bin/pip install --require-hashes --only-binary :all: -r image/build-requirements.txt \
 && python3 -m venv /opt/guardian \
 && /opt/guardian/bin/pip install --require-hashes --only-binary :all: -r image/requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY policies policies
COPY guardian guardian
# Nothing is fetched from here on. What serves only building and tests goes, what says which packages these
# are stays. A read-only root cannot keep compiled modules, so they come with the image; they hold the hash
# of their source, since the time of a file is not the same in every layer.
RUN /opt/tools/bin/pip wheel --no-index --no-build-isolation --no-deps --wheel-dir /wheel . \
 && /opt/guardian/bin/pip install --no-index --no-deps /wheel/*.whl \
 && /opt/guardian/bin/python -m pip --quiet uninstall --yes pip \
 && cd /opt/guardian \
 && rm -rf bin/pip* bin/[aA]ctivate* include share lib/python3*/site-packages/Crypto/SelfTest \
 && find lib -type d \( -name tests -o -name test \) -prune -exec rm -rf {} + \
 && find lib -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.[ch]' \) -delete \
 && find lib -type f \( -name '*.so' -o -name '*.so.[0-9]*' \) -exec strip --strip-unneeded {} + \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash lib \
 && bin/python -c 'import guardian.serve; from guardian.policy.profile import shipped_profiles as p; raise SystemExit(not p())'
COPY image/rootfs.py image/
# The record of payments lives in /var/lib/guardian; without a volume it is lost with the container.
RUN python3 image/rootfs.py /rootfs \
 && install -d -m 0755 /rootfs/opt && cp -a /opt/guardian /rootfs/opt/guardian \
 && cp -a policies /rootfs/etc/guardian \
 && install -d -m 0700 -o 10402 -g 10402 /rootfs/var/lib/guardian \
 && chroot /rootfs /opt/guardian/bin/guardian --help >/dev/null

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="payment-guardian" \
      org.opencontainers.image.description="A reverse proxy that loses no x402 payment and doubles none." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /rootfs /
# There is no /tmp: SQLite's temporary files go beside its own.
ENV PATH=/opt/guardian/bin \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SQLITE_TMPDIR=/var/lib/guardian \
    GUARDIAN_POLICY=/etc/guardian/default.yaml \
    GUARDIAN_LISTEN=0.0.0.0:8402 \
    GUARDIAN_OPS_LISTEN=0.0.0.0:9402 \
    GUARDIAN_STORE=sqlite:////var/lib/guardian/guardian.db
# Numbers, so that Kubernetes can see that this is not root.
USER 10402:10402
WORKDIR /var/lib/guardian
VOLUME /var/lib/guardian
EXPOSE 8402 9402
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
  CMD ["/opt/guardian/bin/python", "-m", "guardian.commands.health"]
ENTRYPOINT ["/opt/guardian/bin/guardian"]
CMD ["serve"]
