# The CPU build, installed by the README's own command:
#   docker build -t isp-nas . && docker run --rm -v "$PWD/work:/work" isp-nas search --budget 5m
FROM python:3.11-slim

WORKDIR /opt/isp-nas
COPY . .
RUN python3.11 -m venv .venv && .venv/bin/pip install --no-cache-dir -c constraints.txt .

# Studies, devices and exports land in the working directory, beside the cache of decoded pairs and compiled code.
ENV PATH="/opt/isp-nas/.venv/bin:$PATH" ISP_NAS_CACHE=/work/.cache
WORKDIR /work
ENTRYPOINT ["isp-nas"]
CMD ["--help"]
