# The server without its stores. First every pinned package is fetched and checked by hash, then only what the server itself
# needs is installed from these: no embedded stores, no test tools.
FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements.lock ./
RUN pip wheel --no-cache-dir --require-hashes --wheel-dir /wheels -r requirements.lock
COPY pyproject.toml README.md ./
COPY protocol protocol
COPY dispatch dispatch
RUN python -m venv /opt/dispatch \
 && /opt/dispatch/bin/pip install --no-cache-dir --no-index --find-links /wheels .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home dispatch \
 && install --directory --owner 10001 --mode 0700 /data
COPY --from=build /opt/dispatch /opt/dispatch
ENV PATH=/opt/dispatch/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DISPATCH_HOST=0.0.0.0 \
    DISPATCH_PORT=8080 \
    DISPATCH_MAIL_BY=off \
    DISPATCH_PAYOUT_BY=manual \
    DISPATCH_STORAGE_DIR=/data/documents
USER 10001
WORKDIR /tmp
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ['DISPATCH_PORT']}/readyz\", timeout=2)"]
ENTRYPOINT ["dispatch"]
CMD ["serve"]
