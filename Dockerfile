# CUDA 12.6: the newest that the platform's T4 hosts run. A plain Python 3.11 image works as well.
ARG BASE_IMAGE=pytorch/pytorch:2.8.0-cuda12.6-cudnn9-runtime
# How the platform runs it: exec (a container per case) or invoke (a server); sets label and entrypoint, see the end.
ARG API_METHOD=exec
FROM ${BASE_IMAGE} AS application
ARG BASE_IMAGE
ARG TORCH_INDEX_URL=

LABEL org.opencontainers.image.title="longilesion" \
      org.opencontainers.image.description="Promptable longitudinal lesion segmentation in CT" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.grand-challenge.api-method="exec"

# The home is /tmp also in the user database: the platform takes HOME from there.
RUN groupadd --gid 10001 user && \
    useradd --no-log-init --uid 10001 --gid user --home-dir /tmp --no-create-home --shell /usr/sbin/nologin user

# Bases whose Python is managed by the system refuse packages; an environment on top sees theirs and adds ours.
RUN python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
        { echo "error: base image without Python >= 3.11" >&2; exit 1; }; \
    python3 -m venv --system-site-packages /opt/venv
ENV PATH=/opt/venv/bin:${PATH}

# A torch of the base stays (torch 2.9 is left out: its 3-D convolutions are several times slower in half precision);
# only a base without one gets the pinned one.
COPY requirements-torch.txt /opt/app/
RUN torch_version() { python -c 'from importlib.metadata import version; print(version("torch"))' 2>/dev/null; }; \
    case $(torch_version) in \
        "") pip install --no-cache-dir ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} \
                -r /opt/app/requirements-torch.txt || exit 1 ;; \
        [01].* | 2.[0-5] | 2.[0-5].* | 2.9 | 2.9.*) \
            echo "error: base image with torch $(torch_version); needed is torch >= 2.6 and not 2.9.*" >&2; exit 1 ;; \
    esac

# The files of the packages are the tested ones by their checksums; nothing is installed that is not listed, so that
# no package brings another torch.
COPY requirements.txt requirements.lock /opt/app/
RUN pip install --no-cache-dir --no-deps --require-hashes -r /opt/app/requirements.lock

# The root file system is read-only in a run: whatever caches belongs below /tmp.
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    HOME=/tmp \
    XDG_CACHE_HOME=/tmp/cache \
    MPLCONFIGDIR=/tmp/matplotlib \
    TORCHINDUCTOR_CACHE_DIR=/tmp/torchinductor \
    TRITON_CACHE_DIR=/tmp/triton

COPY LICENSE process.py /opt/app/
COPY resources /opt/app/resources
COPY model /opt/app/model
# A checkout made under a strict umask gives files that the container's user could not read.
RUN test -z "$(find /opt/app ! -perm -o=r -print -quit)" || \
        { echo "error: files of the checkout are not readable for all; run: chmod -R o+rX ." >&2; exit 1; }

WORKDIR /opt/app
USER user

FROM application AS exec
ENTRYPOINT ["/opt/venv/bin/python", "/opt/app/process.py"]

FROM application AS invoke
LABEL org.grand-challenge.api-method="invoke"
EXPOSE 4743
ENTRYPOINT ["/opt/venv/bin/python", "/opt/app/process.py", "--serve"]

FROM ${API_METHOD}
