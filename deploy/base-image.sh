#!/usr/bin/env bash
# Makes the image `debian:bookworm-slim` on a machine that cannot pull it, from Debian's packages, and tags it under
# that name so that the Dockerfile is the same everywhere. Needs root, Docker and a Debian mirror.
#
#   deploy/base-image.sh            does nothing when the image is here already
#
# The file system is kept packed under ${WEAL_CI_CACHE:-~/.cache/commonweal}, so a second run needs no mirror.
set -euo pipefail

readonly IMAGE=debian:bookworm-slim
readonly SUITE=bookworm
readonly MIRROR=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
# What the Dockerfile would install on top: the Vulkan loader, by which `weal` finds a GPU's driver.
readonly EXTRA=ca-certificates,libvulkan1
readonly CACHE=${WEAL_CI_CACHE:-$HOME/.cache/commonweal}
readonly PACKED=$CACHE/base-image-$SUITE.tar.gz

say() { printf 'base-image: %s\n' "$*" >&2; }

here() { docker image inspect "$IMAGE" >/dev/null 2>&1; }

# Packs the smallest Debian into $PACKED, by a temporary name, so that a broken run leaves no half of it.
pack() (
    if ! command -v debootstrap >/dev/null; then
        say "installing debootstrap"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends debootstrap >/dev/null
    fi
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    say "putting $SUITE together with debootstrap"
    if ! debootstrap --variant=minbase --include="$EXTRA" "$SUITE" "$work/root" "$MIRROR" >"$work/log" 2>&1; then
        tail -n 20 "$work/log" >&2
        say "debootstrap failed; is $MIRROR reachable? Another mirror: DEBIAN_MIRROR=…"
        exit 1
    fi
    # As in Docker's own slim image: no package lists, no manuals, nothing that only a person at a terminal reads.
    rm -rf "$work"/root/var/cache/apt/archives/*.deb "$work"/root/var/lib/apt/lists/* "$work"/root/var/log/* \
        "$work"/root/usr/share/{doc,man,info,locale}/*
    mkdir -p "$CACHE"
    tar --numeric-owner --one-file-system -C "$work/root" -c . | gzip -1 >"$PACKED.part"
    mv "$PACKED.part" "$PACKED"
)

main() {
    if here; then
        say "$IMAGE is here"
        return
    fi
    if [ "${CI:-}" != true ] && timeout 60 docker pull -q "$IMAGE" >/dev/null 2>&1; then
        say "$IMAGE pulled"
        return
    fi
    [ -s "$PACKED" ] || pack
    docker import --change 'CMD ["bash"]' "$PACKED" "$IMAGE" >/dev/null
    say "$IMAGE made from $PACKED"
}

main "$@"
