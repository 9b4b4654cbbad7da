# One image for the API, workers, schedulers and migrations: docker build --tag lms .
# It needs a writable /tmp and nothing else: it runs on a read-only root, as any user.

# Debian 12 with the Python that the tests run on; 3.12 and 3.13 are supported too.
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
# 1: with the font for Chinese, Japanese and Korean names on certificates, 27 MB.
ARG CJK=0
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements.build.lock.txt requirements.runtime.lock.txt ./
RUN if [ "$CJK" != 1 ]; then sed -i '/^cvttf-notosanscjk-regular==/,/[^\\]$/d' requirements.runtime.lock.txt; fi \
  && python3 -m venv /opt/lms \
  && /opt/lms/bin/pip install --no-deps --require-hashes -r requirements.runtime.lock.txt \
  && python3 -m venv --clear build \
  && build/bin/pip install --no-deps --require-hashes -r requirements.build.lock.txt
COPY pyproject.toml README.md LICENSE ./
COPY lms lms
# pip compiles every module, since nothing can be written later; then its work is done.
RUN build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir build . \
  && /opt/lms/bin/pip install --no-deps build/lms-*.whl \
  && /opt/lms/bin/pip uninstall --yes pip setuptools

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="lms" \
      org.opencontainers.image.description="A headless learning backend: API, worker, scheduler and migrations" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN pip uninstall --yes pip setuptools wheel && rm -rf /usr/local/lib/python3.*/ensurepip
COPY --from=build /opt/lms /opt/lms
ENV PATH=/opt/lms/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 LMS_ENVIRONMENT=production
WORKDIR /opt/lms
# A number, so that Kubernetes sees that it is not root; there is no account behind it, and nothing belongs to it.
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# Whether the process runs. Who restarts what is unhealthy must not do so because a database is away. Workers and
# schedulers answer here with --health-port 8000.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 CMD ["lms", "health", "--live"]
ENTRYPOINT ["lms"]
CMD ["serve", "--host", "0.0.0.0"]
