#!/usr/bin/env bash
set -euo pipefail

usage() {
    cat <<'END'
usage: docker/build.sh [options]

In a git checkout, as root, on Debian with buildah, and debootstrap unless --base is given. Builds the image twice
without a daemon, by `buildah bud --isolation chroot`, and checks it: both hold the same packages, the same run gives
the same risk to the last digit, a caller who is nobody in the image owns the results, a first run adds nothing to the
caches of compiled code, a shipped run file and its figures come from the documented commands, manifests and a label
have the commit, all tests pass by the documented command, the image is at most 900 MB compressed.

  --base IMAGE     build on this image of the local store instead of a base made by debootstrap
  --suite NAME     what debootstrap makes (trixie)
  --mirror URL     where debootstrap and apt in the base take packages from (debootstrap's default)
  --ca FILE        certificates (PEM) of an authority that the base is to trust, too
  --warm "N …"     numbers of ranks whose programs are compiled into the caches (1 2 8)
  --ranks N        ranks of the runs that are compared (2)
  --horizon TAU    end of these runs, instead of the quick start's own
  --tests "PATH …" run only these tests inside, instead of all (half an hour on two cores)
  --builds N       1: build and check, and compare nothing (2)
  --out DIR        where results and lists go (docker/results)
  --tag NAME       name of the image (mfpde)
  --help           this text
END
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
base="" suite=trixie mirror="" ca="" warm="1 2 8" ranks=2 horizon="" builds=2 out=$here/results tag=mfpde
tests=""
while [ $# -gt 0 ]; do
    case $1 in
        --help) usage; exit 0 ;;
        --base | --suite | --mirror | --ca | --warm | --ranks | --horizon | --tests | --builds | --out | --tag)
            [ $# -ge 2 ] || { echo "build.sh: $1 needs a value" >&2; exit 2; }
            printf -v "${1#--}" '%s' "$2"; shift 2 ;;
        *) echo "build.sh: $1 is no option; --help lists them" >&2; exit 2 ;;
    esac
done

say() { printf '%(%H:%M:%S)T %s\n' -1 "$*"; }
fail() { echo "build.sh: $*" >&2; exit 1; }

# An image of the local store from what debootstrap makes in a folder.
make_base() {
    local folder container
    folder=$(mktemp -d)
    say "debootstrap $suite"
    debootstrap --variant=minbase "$suite" "$folder" ${mirror:+"$mirror"} >"$out/debootstrap.log" 2>&1 \
        || fail "debootstrap failed; see $out/debootstrap.log"
    # As in Debian's own slim images: no documents, no translations.
    (cd "$folder/usr/share" && rm -rf man info locale lintian && find doc -type f ! -name copyright -delete)
    printf 'path-exclude /usr/share/%s\n' 'man/*' 'info/*' 'locale/*' 'lintian/*' 'doc/*' >"$folder/etc/dpkg/dpkg.cfg.d/slim"
    echo 'path-include /usr/share/doc/*/copyright' >>"$folder/etc/dpkg/dpkg.cfg.d/slim"
    if [ -n "$ca" ]; then
        install -D --mode=644 "$ca" "$folder/usr/local/share/ca-certificates/local.crt"
    fi
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$folder" / >/dev/null
    buildah commit --quiet --rm "$container" "$base" >/dev/null
    rm -rf "$folder"
}

# in_image IMAGE USER FOLDER COMMAND…: a new container, FOLDER mounted as /results, taken away afterwards.
in_image() {
    local container code=0
    container=$(buildah from --pull-never "$1")
    buildah run --isolation chroot --user "$2" --volume "$3:/results" "$container" -- "${@:4}" || code=$?
    buildah rm "$container" >/dev/null
    return $code
}

# with_revision NUMBER FOLDER: do the label of that build and the manifest in FOLDER name the commit?
with_revision() {
    local label='{{index .OCIv1.Config.Labels "org.opencontainers.image.revision"}}'
    [ "$(buildah inspect --format "$label" "localhost/$tag:$1")" = "$revision" ] \
        || fail "build $1: the label is not the revision $revision"
    grep --quiet "\"revision\": \"$revision\"" "$2/manifest.json" \
        || fail "build $1: $2/manifest.json does not have the revision $revision"
}

mkdir -p "$out"
out=$(cd "$out" && pwd)
if [ -z "$base" ]; then
    base=localhost/$tag-base:$suite
    make_base
fi

caller=4321:4321    # nobody in the image
revision=$(git -c "safe.directory=$root" -C "$root" describe --always --dirty --abbrev=40 --exclude='*') \
    || fail "$root is no git checkout: the image would have no revision"
python_packages='from importlib.metadata import distributions
for package in distributions(): print(f"{package.name}=={package.version}")'
run=(mpirun -n "$ranks" python -m mfpde.solve --directory /results/quickstart)
shipped=(mpirun -n "$ranks" python -m mfpde.solve /mfpde/runs/in-context.toml --directory /results/in-context)
plot=(python -m mfpde.plot /results/in-context)
[ -z "$horizon" ] || run+=(--set "training.horizon=$horizon") shipped+=(--set "training.horizon=$horizon")
for ((i = 1; i <= builds; i++)); do
    say "build $i: buildah bud"
    buildah bud --isolation chroot --pull-never --no-cache --build-arg "BASE=$base" --build-arg "WARM=$warm" \
        --build-arg "REVISION=$revision" --file "$here/Dockerfile" --tag "localhost/$tag:$i" "$root" \
        >"$out/build$i.log" 2>&1 \
        || fail "build $i failed; see $out/build$i.log"
    rm -rf "$out/run$i" && mkdir "$out/run$i" && chown "$caller" "$out/run$i"
    say "build $i: lists of packages"
    in_image "localhost/$tag:$i" "$caller" "$out/run$i" sh -c \
        'dpkg-query --show >/results/dpkg.txt && python -c "$1" | sort >/results/python.txt' lists "$python_packages" \
        || fail "build $i: no lists of packages"
    say "build $i: ${run[*]}"
    in_image "localhost/$tag:$i" "$caller" "$out/run$i" bash -c '
        compiled() { find /cache/mfpde /cache/numba -type f ! -name "*-atime" | sort; }
        compiled >/results/cache-before.txt && "$@" && compiled >/results/cache-after.txt' run "${run[@]}" \
        || fail "the run in build $i failed"
    [ -z "$(find "$out/run$i" ! -uid "${caller%:*}")" ] || fail "build $i: results that the caller does not own"
    with_revision "$i" "$out/run$i/quickstart"
    new=$(comm -13 "$out/run$i/cache-before.txt" "$out/run$i/cache-after.txt" | wc -l)
    say "build $i: the first run added $new files to $(wc -l <"$out/run$i/cache-before.txt") of compiled code"
    [ "$new" -eq 0 ] || fail "a first run compiled something"
done

if [ "$builds" -gt 1 ]; then
    for list in dpkg.txt python.txt; do
        cmp "$out/run1/$list" "$out/run2/$list" || fail "two builds hold other packages: $list"
    done
    risk() { grep -E '"(risk|energy)"' "$out/run$1/quickstart/summary.json"; }
    [ "$(risk 1)" = "$(risk 2)" ] || fail "two builds give other risks"
    say "two builds: the same $(wc -l <"$out/run1/dpkg.txt") + $(wc -l <"$out/run1/python.txt") packages, and $(risk 1 | tr -s ' \n' ' ')"
fi

for command in shipped plot; do
    declare -n words=$command
    say "${words[*]}"
    in_image "localhost/$tag:1" "$caller" "$out/run1" "${words[@]}" || fail "failed inside: ${words[*]}"
done
with_revision 1 "$out/run1/in-context"

say "python -m pytest $tests"
# shellcheck disable=SC2086  # several paths
in_image "localhost/$tag:1" mfpde "$out/run1" env --chdir=/mfpde python -m pytest -q $tests || fail "tests failed inside"

say "compressed size"
rm -rf "$out/oci" && buildah push --quiet "localhost/$tag:1" "oci:$out/oci:$tag"
size=$(du --summarize --block-size=1000000 "$out/oci" | cut -f1)
say "compressed size: $size MB"
[ "$size" -le 900 ] || fail "more than 900 MB"
buildah tag "localhost/$tag:1" "localhost/$tag:latest"
say "localhost/$tag:latest is ready"
