#!/usr/bin/env bash
# Builds the image `debian:bookworm-slim` from Debian's packages, for machines that cannot pull it. It gets the usual
# name, so that the Dockerfile works unchanged. Needs root, Docker and a Debian mirror. If the image can be pulled after
# all, pulls it instead; if it is present, does nothing.
#
# The packed file system is cached in ${WEAL_CI_CACHE:-~/.cache/commonweal}, so a second run needs no mirror.
set -euo pipefail

readonly IMAGE=debian:bookworm-slim
readonly SUITE=bookworm
readonly MIRROR=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
# Installs the Vulkan loader, so that the Dockerfile need not: `weal` finds a GPU's driver through it.
readonly EXTRA=ca-certificates,libvulkan1
readonly CACHE=${WEAL_CI_CACHE:-$HOME/.cache/commonweal}
readonly PACKED=$CACHE/base-image-$SUITE.tar.gz

say() { printf 'base-image: %s\n' "$*" >&2; }

is_present() { docker image inspect "$IMAGE" >/dev/null 2>&1; }

# Packs a minimal Debian into $PACKED. Writes to a temporary name first, so that a failed run leaves no partial file.
pack() (
    if ! command -v debootstrap >/dev/null; then
        say "installing debootstrap"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends debootstrap >/dev/null
    fi
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    say "building $SUITE with debootstrap"
    if ! debootstrap --variant=minbase --include="$EXTRA" "$SUITE" "$work/root" "$MIRROR" >"$work/log" 2>&1; then
        tail -n 20 "$work/log" >&2
        say "debootstrap failed; if $MIRROR is unreachable, set DEBIAN_MIRROR to another mirror"
        exit 1
    fi
    # As in Docker's slim image: no package lists, manuals or translations.
    rm -rf "$work"/root/var/cache/apt/archives/*.deb "$work"/root/var/lib/apt/lists/* "$work"/root/var/log/* \
        "$work"/root/usr/share/{doc,man,info,locale}/*
    mkdir -p "$CACHE"
    tar --numeric-owner --one-file-system -C "$work/root" -c . | gzip -1 >"$PACKED.part"
    mv "$PACKED.part" "$PACKED"
)

main() {
    if is_present; then
        say "$IMAGE is present"
        return
    fi
    if [ "${CI:-}" != true ] && timeout 60 docker pull -q "$IMAGE" >/dev/null 2>&1; then
        say "pulled $IMAGE"
        return
    fi
    [ -s "$PACKED" ] || pack
    docker import --change 'CMD ["bash"]' "$PACKED" "$IMAGE" >/dev/null
    say "made $IMAGE from $PACKED"
}

main "$@"
