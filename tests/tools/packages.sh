# Sourced by quickstart.sh and check.sh: installs Debian packages that are not there yet.

# What the programs need to be built. Debian 12 and 13, Ubuntu 24.04.
build_packages=(build-essential cmake ninja-build pkg-config git liblmdb-dev libmatio-dev libjpeg-dev libpng-dev
    libjansson-dev libxxhash-dev zlib1g-dev libdnnl-dev)

# Install the build's packages and those named, those of them that are missing.
install_packages() {
    local missing=() package run=()
    for package in "${build_packages[@]}" "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    [ "$(id -u)" -eq 0 ] || run=(sudo)
    echo "installing: ${missing[*]}"
    "${run[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${run[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}
