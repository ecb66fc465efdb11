# syntax=docker/dockerfile:1
# The operator, as the chart runs it: no root, no shell, nothing to write to.
# `rig/kind/python_image.py` makes the same image where no registry can be reached.
ARG PYTHON=3.11
FROM python:${PYTHON}-slim-bookworm AS build
ARG PYTHON
WORKDIR /build
RUN apt-get update -qq && apt-get install -qq --yes --no-install-recommends binutils
COPY requirements/operator.txt requirements/build.txt requirements/
RUN pip install --no-cache-dir --no-compile --require-hashes --target /opt/app -r requirements/operator.txt \
 && pip install --no-cache-dir --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md ./
COPY operator operator
RUN pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && pip install --no-compile --no-deps --no-index --target /opt/app dist/*.whl \
 && rm -rf /opt/app/bin
# What runs is put together here: the interpreter, the libraries that it and the packages load, and
# the packages, compiled once because the container cannot do it.
RUN set -eu; \
    root=/image; lib=usr/local/lib/python${PYTHON}; \
    mkdir -p "$root/usr/local/bin" "$root/$lib" "$root/opt" "$root/etc" "$root/tmp"; chmod 1777 "$root/tmp"; \
    for each in bin sbin lib lib64; do mkdir -p "$root/usr/$each"; ln -s "usr/$each" "$root/$each"; done; \
    cp -a "/usr/local/bin/python${PYTHON}" "$root/usr/local/bin/"; \
    ln -s "python${PYTHON}" "$root/usr/local/bin/python3"; \
    tar -C "/$lib" --exclude=__pycache__ --exclude=./site-packages --exclude=./test --exclude=./idlelib \
        --exclude=./ensurepip --exclude=./lib2to3 --exclude=./tkinter --exclude=./turtledemo \
        --exclude=./pydoc_data --exclude=./distutils \
        --exclude='./config-*' -c . | tar -C "$root/$lib" -x; \
    cp -a /opt/app "$root/opt/app"; \
    find "$root" -type f \( -name '*.so' -o -name '*.so.*' -o -path '*/bin/python*' \) -exec ldd {} + 2>/dev/null \
        | grep -oE '/[^ ]+\.so[^ ]*' | grep -v "^$root" | sort -u \
        | while read -r library; do mkdir -p "$root$(dirname "$library")"; cp -L "$library" "$root$library"; done; \
    # Symbols of libraries are a fifth of the image, and never loaded.
    find "$root" -type f \( -name '*.so' -o -name '*.so.*' \) -exec strip --strip-unneeded {} +; \
    cp -a /etc/ld.so.conf /etc/ld.so.conf.d "$root/etc/"; ldconfig -r "$root"; \
    echo 'nobody:x:65532:65532:nobody:/:/nonexistent' > "$root/etc/passwd"; \
    chroot "$root" "/usr/local/bin/python${PYTHON}" -m compileall -q --invalidation-mode unchecked-hash \
        "/$lib" /opt/app

FROM scratch
COPY --from=build /image /
ENV PATH=/usr/local/bin PYTHONPATH=/opt/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/python3", "-m", "sovereign_gpu"]
