# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# The parts of ./run test and lint: test_PART for each of test_parts, and what they share. ./run reads this file, and has
# all that is neither here nor a program.

readonly fault_report=$build_dir/faults.jsonl
readonly coverage_floor=90 # per cent of lines, for each of covered_parts
readonly covered_parts=(core tc)
# Parts that keep processors busy, and parts that mostly wait for daemons, guests and traffic.
readonly busy_parts=(lint unit clang sanitize threads valgrind fuzz)
readonly sandbox_parts=(e2e faults)
readonly other_parts=(tool docs package sanitized)
# Some e2e tests with the libvirt of Debian 13, in the short form.
readonly short_parts=(released)
# All e2e tests in other releases of Debian, with their libvirt (in a root that is made first).
readonly release_parts=(trixie sid)
# By name, and in the long form. peer, nftables: a virtual machine (tests/peer) is made first, and is slow.
readonly long_parts=(peer nftables "${release_parts[@]}")
readonly test_parts=("${busy_parts[@]}" "${sandbox_parts[@]}" "${other_parts[@]}" "${short_parts[@]}" "${long_parts[@]}")
# What valgrind runs but in the long form, which runs all: where bytes are parsed and counted.
readonly raw_memory_tests=(netlink_test reader_test request_test status_file_test
    domain_status_test network_xml_test port_xml_test parameters_test)
# The e2e tests that run with sanitizers: one of each kind.
readonly sanitized_tests="gives_class_filter_and_id or trees_are_taken_over or two_restarts_in_a_row
    or (damaged_status and cut-off) or destroyed_guest or crashed_guest
    or domiftune_changes or update_device_changes or overcommit_is_refused or port_parameters"
# Those that a release is tried with where it is not all (parts released and sid): load, start, plug, change, restart,
# lost state, take-over, unplug.
readonly released_tests="$sanitized_tests or test_sandbox or test_unplug or test_takeover
    or lost or rx_filter or module_has_one_door or table_that_looks_wrong or unknown_version or metadata"

# In the long form: all but those that stand before libvirtd's sendmsg, where the sanitizers stand, and that of
# languages, which libvirtd with sanitizers has none of.
readonly all_sanitized_tests="not (kernel_without_htb or kernel_without_u32 or daemons_l)"

# What later releases have in packages of its own.
readonly release_packages=("${build_packages[@]}" "${sandbox_packages[@]}"
    libvirt-daemon-driver-network libvirt-daemon-driver-nwfilter libvirt-daemon-log)

# What the package's tests need: to look at it, and for the host in which it is tried.
readonly package_test_packages=(lintian systemd bash-completion)
readonly fresh_host_packages=(dbus libvirt-daemon-driver-lxc dnsmasq-base iproute2 iputils-ping procps bash-completion
    python3 python3-libvirt python3-pytest)
readonly host_packages=(libvirt-daemon-system systemd-sysv) # would start daemons: they are not installed on this host

cpp_files() { find include src status tests \( -name '*.cc' -o -name '*.h' \) "$@"; }
shell_files() { grep -rlIE '^#!.*(bash|/sh)' run .ci debian packaging tests; }
python_files() { find docs src tests -name '*.py' "$@"; }

check_schemas() {
    xmllint --noout schemas/*.rng && xmllint --noout --relaxng schemas/floornetwork.rng status/examples/*.xml
}

# In the short form without clang-tidy: all else takes 4 s of a processor, and clang-tidy about 7 s for each file.
test_lint() {
    headline "lint"
    check "C++ is formatted" cpp_files -exec clang-format-14 --dry-run -Werror {} +
    # shellcheck disable=SC2046  # files have no spaces in their names
    check "shellcheck" shellcheck --external-sources $(shell_files)
    check "pyflakes" python_files -exec pyflakes3 {} +
    check "codespell" codespell
    check "schemas, and examples of status files" check_schemas
    [[ ! ${VIRFLOOR_LONG:-} ]] || check "clang-tidy" tidy
}

# What the product is made of; GoogleTest's macros are not to every check's taste. Without precompiled headers, so that
# a file that lacks an include is seen.
tidy() {
    local dir=$build_dir-tidy
    configure "$dir" -Db_pch=false -Dtests=disabled && ninja -C "$dir" build.ninja &&
        find src status -name '*.cc' -print0 |
        xargs -0 -n 1 -P "$(nproc)" clang-tidy-14 -p "$dir" --quiet 2>"$dir/tidy.log"
}

# lint [--fix]: what it can mend, it does.
lint() {
    if [[ ${1:-} == --fix ]]; then
        setup
        cpp_files -exec clang-format-14 -i {} +
    else
        run_tests --long lint
    fi
}

passed=0
failed=0

# check NAME COMMAND…: one test, passed if the command succeeds.
check() {
    local name=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
        echo "PASS $name"
    else
        failed=$((failed + 1))
        echo "FAIL $name"
    fi
}

# Adds a line "PASSED FAILED" of counts.
add_counts() {
    local counts=("$@")
    ((counts[0] + counts[1])) || counts=(0 1) # no tests at all
    echo "${counts[0]} passed, ${counts[1]} failed"
    passed=$((passed + counts[0]))
    failed=$((failed + counts[1]))
}

# Counts of the last meson test in a build folder: a GoogleTest binary counts by its tests, where it
# lived to report them; any other program counts as one.
meson_counts() {
    "$python" - "$1/meson-logs/testlog.json" "$2" <<'EOT'
import json, pathlib, sys

log, reports = map(pathlib.Path, sys.argv[1:])
passed = failed = 0
for line in log.read_text().splitlines():
    test = json.loads(line)
    if test["result"] == "SKIP":
        continue
    ok = test["result"] in ("OK", "EXPECTEDFAIL")
    report = reports / (pathlib.Path(test["command"][0]).name + ".json")
    if report.exists():
        summary = json.loads(report.read_text())
        bad = summary["failures"] + summary["errors"]
        ran = sum(case["status"] == "RUN" and case.get("result") != "SKIPPED"
                  for suite in summary["testsuites"] for case in suite["testsuite"])
        passed += ran - bad
        failed += bad or (not ok)
    else:
        passed += ok
        failed += not ok
print(passed, failed)
EOT
}

coverage_of() {
    gcovr --root . --filter "src/$1/" --exclude-throw-branches --fail-under-line "$coverage_floor" \
        "$build_dir-unit/src/$1"
}

# The unit tests, for coverage; valgrind runs the same.
build_unit() {
    configure "$build_dir-unit" --optimization=0 -Ddebug=false -Dcpp_args=-g1 -Db_coverage=true &&
        ninja -C "$build_dir-unit" meson-test-prereq
}

test_unit() {
    headline "unit"
    local dir=$build_dir-unit part
    local reports=$dir/gtest
    rm -rf "$reports" "$dir/meson-logs/testlog.json"
    check "build of the unit tests" build_unit
    find "$dir" -name '*.gcda' -delete
    GTEST_OUTPUT="json:$reports/" meson test -C "$dir" --no-rebuild --print-errorlogs || true
    # shellcheck disable=SC2046  # two numbers
    add_counts $(meson_counts "$dir" "$reports" || echo 0 1)
    check "docs/benchmarks.md says what its results say" \
        "$python" -B tests/bench/report.py --check docs/benchmarks docs
    check "translations are complete" "$python" -B tests/po/catalogs_test.py
    check "libvirt's source trees are compared rightly" \
        env PYTHONDONTWRITEBYTECODE=1 "$python" tests/layouts/compare_test.py
    for part in "${covered_parts[@]}"; do
        check "at least $coverage_floor % of the lines of src/$part are covered" coverage_of "$part"
    done
}

# One build serves the second compiler, the sanitizers (for unit and e2e tests) and the fuzz targets. Calls
# through pointers to functions are not checked: clang 14 and the run-time library of sanitizer_runtime do that
# in two ways.
build_clang() (
    mkdir -p "$build_dir-clang"
    flock 9
    export CC=clang-14 CXX=clang++-14
    configure "$build_dir-clang" --optimization=0 -Ddebug=false -Dwerror=true -Dcpp_args="['-fno-sanitize=function', '-gline-tables-only']" \
        -Db_sanitize=address,undefined -Db_lundef=false -Dfuzzers=enabled &&
        ninja -C "$build_dir-clang" "$@"
) 9>"$build_dir-clang.lock"

# For libvirtd, which loads a module with sanitizers. Older ones than clang 17's do not let go of their locks in a
# child that a program with threads forks, and it hangs before its exec.
sanitizer_runtime() { dpkg -L libclang-rt-19-dev | grep "/libclang_rt.asan-$(uname -m).so$"; }

test_clang() {
    headline "clang"
    check "clang builds without a warning" build_clang all meson-test-prereq
}

test_sanitize() {
    headline "sanitize"
    build_clang meson-test-prereq || true
    check "unit tests under the address and undefined behaviour sanitizers" env \
        UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
        meson test -C "$build_dir-clang" --no-rebuild --print-errorlogs --timeout-multiplier 4
}

# Tests that work with threads, under the thread sanitizer.
test_threads() {
    headline "threads"
    local dir=$build_dir-threads
    configure "$dir" --optimization=0 -Ddebug=false -Dcpp_args=-g1 -Db_sanitize=thread -Db_lundef=false
    check "build for the thread sanitizer" ninja -C "$dir" tests/unit/concurrency_test
    check "unit tests of threads under the thread sanitizer" env TSAN_OPTIONS=halt_on_error=1 \
        meson test -C "$dir" --no-rebuild --print-errorlogs --timeout-multiplier 4 concurrency_test
}

test_valgrind() {
    headline "valgrind"
    local tests=("${raw_memory_tests[@]}")
    [[ ! ${VIRFLOOR_LONG:-} ]] || tests=()
    check "build for valgrind" build_unit
    check "unit tests under valgrind" env G_SLICE=always-malloc \
        meson test -C "$build_dir-unit" --no-rebuild --print-errorlogs --timeout-multiplier 20 \
        --wrapper 'valgrind --quiet --error-exitcode=1 --leak-check=full --errors-for-leak-kinds=definite' \
        "${tests[@]}"
}

# add_figure WHAT NUMBER: to those that tests/faults/report.py prints; the same ones are added up.
add_figure() { printf '{"what": "%s", "how": "sum", "value": %d, "unit": ""}\n' "$@" >>"$fault_report"; }

# fuzz TARGET SECONDS: replays its corpus, goes on from there, and counts what ran. What it finds is
# kept in the build folder.
fuzz() {
    local name=$1 seconds=$2 work=$build_dir-clang/fuzz/$1 options=()
    mkdir -p "$work/corpus"
    [[ ! -e tests/fuzz/$name.dict ]] || options=("-dict=tests/fuzz/$name.dict")
    UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 "$build_dir-clang/tests/fuzz/fuzz_$name" \
        "${options[@]}" -max_total_time="$seconds" -max_len=16384 -timeout=20 -malloc_limit_mb=512 \
        -print_final_stats=1 -artifact_prefix="$work/" "$work/corpus" "tests/fuzz/corpus/$name" \
        >"$work/log" 2>&1 || { tail -n 60 "$work/log"; return 1; }
    add_figure "fuzz executions" "$(awk '/^stat::number_of_executed_units:/ { print $2 }' "$work/log")"
}

# All targets, two at a time.
test_fuzz() {
    headline "fuzz"
    local seconds=8 name names=() running=()
    [[ ! ${VIRFLOOR_LONG:-} ]] || seconds=600
    mapfile -t names < <(cd tests/fuzz/corpus && ls)
    check "build the fuzz targets" build_clang "${names[@]/#/tests/fuzz/fuzz_}"
    while ((${#names[@]})); do
        running=("${names[@]:0:2}")
        names=("${names[@]:2}")
        local processes=()
        for name in "${running[@]}"; do
            fuzz "$name" "$seconds" &
            processes+=($!)
        done
        for name in "${running[@]}"; do
            check "fuzz $name for $seconds s" wait "${processes[0]}"
            processes=("${processes[@]:1}")
        done
    done
}

# Counts of a JUnit report, as pytest writes it.
junit_counts() {
    "$python" - "$1" <<'EOT'
import sys, xml.etree.ElementTree as tree

suite = tree.parse(sys.argv[1]).getroot().find("testsuite")
total, failures, errors, skipped = (
    int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped"))
print(total - failures - errors - skipped, failures + errors)
EOT
}

# add_junit REPORT: one that is not there is a failure.
add_junit() {
    # shellcheck disable=SC2046  # two numbers
    add_counts $(junit_counts "$1" || echo 0 1)
}

# A kernel and a shell for guests that really run, unpacked, not installed.
readonly guest_modules=(virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci
    failover net_failover virtio_net)

guest_files() (
    local dir=$build_dir/guest work=$build_dir/guest.new kernel name
    [[ ! -e $dir ]] || return 0
    rm -rf "$work"
    mkdir -p "$work/modules"
    cd "$work" || return
    kernel=$(apt-cache depends linux-image-cloud-amd64 | awk '$1 == "Depends:" { print $2; exit }')
    local download=(apt-get download --quiet "$kernel" busybox-static)
    "${download[@]}" || { apt-get update --quiet && "${download[@]}"; }
    for name in *.deb; do dpkg-deb --extract "$name" unpacked; done
    mv unpacked/boot/vmlinuz-* vmlinuz
    mv unpacked/bin/busybox busybox
    for name in "${guest_modules[@]}"; do find unpacked -name "$name.ko" -exec mv {} modules \;; done
    rm -rf unpacked ./*.deb
    [[ -s vmlinuz && -x busybox && -e modules/virtio_net.ko ]] && mv "$work" "$dir"
)

# Prometheus and its promtool, unpacked, not installed: the package would start a server on this host.
prometheus_files() (
    local dir=$build_dir/prometheus work=$build_dir/prometheus.new
    [[ ! -e $dir ]] || return 0
    rm -rf "$work"
    mkdir -p "$work"
    cd "$work" || return
    local download=(apt-get download --quiet prometheus)
    "${download[@]}" || { apt-get update --quiet && "${download[@]}"; }
    dpkg-deb --extract prometheus_*.deb unpacked
    mv unpacked/usr/bin/{prometheus,promtool} .
    rm -rf unpacked ./*.deb
    [[ -x prometheus && -x promtool ]] && mv "$work" "$dir"
)

# sandbox_pytest FOLDER [ARGUMENT…]: the tests of a folder, in a sandbox.
sandbox_pytest() {
    local folder=$1 report=$build_dir/${1##*/}.xml
    shift
    need_root "test ${folder##*/}"
    guest_files || die "no kernel for guests"
    rm -f "$report"
    (build sandbox && sandbox_python -m pytest -p no:cacheprovider --junitxml="$report" \
        "$PWD/$folder" "$@" </dev/null) || true
    add_junit "$report"
}

test_e2e() {
    headline "e2e"
    sandbox_pytest tests/e2e
}

test_tool() {
    headline "tool"
    prometheus_files || die "no Prometheus for tests"
    sandbox_pytest tests/tool
}

# Paragraphs of the sanitizers' reports that speak of our module. There are reports at any rate: the
# leaks of the dynamic linker and of libvirt, which are their own.
no_report_of_ours() {
    local found
    compgen -G "$1/report.*" >/dev/null || return
    found=$(awk -v RS= '/virfloor|sandbox\/drivers\/libvirt_driver_network/ { print FILENAME ": " $0 > "/dev/stderr"; ++n } END { print n + 0 }' "$1"/report.*)
    add_figure "leaks and errors that sanitizers found in the module" "$found"
    ((found == 0))
}

# The e2e tests on a module with the address and undefined behaviour sanitizers.
test_sanitized() {
    headline "sanitized"
    local reports=$build_dir-clang/reports driver_dir=$build_dir-clang/stage selection=${sanitized_tests//$'\n'/ }
    [[ ! ${VIRFLOOR_LONG:-} ]] || selection=$all_sanitized_tests
    check "build the module with sanitizers" build_clang "src/plugin/$module"
    SANITIZERS=$(sanitizer_runtime)
    export SANITIZERS # sandbox-libvirtd looks at it, too
    stage_module "$build_dir-clang" "$driver_dir"
    rm -rf "$reports"
    mkdir "$reports"
    local symbols=malloc_context_size=20:external_symbolizer_path
    ASAN_OPTIONS=log_path=$reports/report:$symbols=$(command -v addr2line) \
        UBSAN_OPTIONS=log_path=$reports/report:print_stacktrace=1 \
        sandbox_pytest tests/e2e -k "$selection"
    check "the sanitizers report nothing of our module" no_report_of_ours "$reports"
    unset SANITIZERS
}

# download_packages DIR: `host`, the packages that this host lacks to run libvirt by systemd, and `later`, one of libvirt's
# drivers.
download_packages() {
    local dir=$1 install
    [[ ! -e $dir ]] || return 0
    rm -rf "$dir.new"
    mkdir -p "$dir.new"/{host/partial,later}
    install=(apt-get install --quiet --yes --no-install-recommends --download-only
        -o "Dir::Cache::archives=$dir.new/host" "${host_packages[@]}")
    { "${install[@]}" || { apt-get update --quiet && "${install[@]}"; }; } &&
        (cd "$dir.new/later" && apt-get download --quiet libvirt-daemon-driver-vbox) &&
        mv "$dir.new" "$dir"
}

# host_pytest ROOT DEBS RESULTS FILE: tests of the package on a host with that root.
host_pytest() {
    local root=$1 debs=$2 results=$3 file=$4
    rm -rf "$results"
    mkdir -p "$results"
    setpriv --pdeathsig TERM tests/package/machine "$root" "$results" "$PWD" "$debs" -- \
        /usr/bin/env PACKAGES="$debs" "$python" -B -m pytest -p no:cacheprovider \
        --junitxml="$results/junit.xml" "$PWD/tests/package/$file" </dev/null || cat "$results/output"
    add_junit "$results/junit.xml"
}

# meson.build and the package say the same.
same_version() {
    local ours theirs
    ours=$(sed -n "s/^  version: '\(.*\)',$/\1/p" meson.build)
    theirs=$(dpkg-parsechangelog --show-field Version)
    [[ $ours == "$theirs" ]] || { echo "meson.build has $ours, debian/changelog $theirs"; return 1; }
}

# The package once more, elsewhere and otherwise, is the same to the last byte.
builds_the_same() {
    local elsewhere=$build_dir/package-again
    (umask 077 && TZ=Asia/Tokyo LC_ALL=C package_into "$elsewhere") >"$elsewhere.log" 2>&1 &&
        cmp "$package_dir"/libvirt-floor_*.deb "$elsewhere"/libvirt-floor_*.deb
}

# logged LOG COMMAND…: its output goes to a file, and is shown only if it fails.
logged() {
    local log=$1
    shift
    "$@" >"$log" 2>&1 || { tail -n 30 "$log"; return 1; }
}

make_fresh_host() {
    [[ -e $1 ]] || tests/sandbox/other-root make bookworm "$1" "${host_packages[@]}" "${fresh_host_packages[@]}"
}

# In the long form also on a Debian 12 that has little else than what the package asks for.
test_package() {
    headline "package"
    need_root "test package"
    local debs=$build_dir/package-host log=$build_dir/package.log fresh=$build_dir-bookworm/root
    # The code is the same without debug information, and there sooner.
    local -x DEB_BUILD_OPTIONS="nocheck noautodbgsym" DEB_CXXFLAGS_STRIP=-g
    setup_package "${package_test_packages[@]}"
    check "its version is that of meson.build" same_version
    check "the folder of drivers is whole, or not used" "$python" -B -m pytest --quiet -p no:cacheprovider \
        --noconftest tests/package/test_refresh_driver_dir.py
    check "build" logged "$log" build # to be installed without a package, too
    check "it is built" logged "$log" package_into "$package_dir"
    check "lintian has no complaint" lintian --allow-root --fail-on error,warning "$package_dir"/*.changes
    check "packages for a host" logged "$log" download_packages "$debs"
    rm -f "$debs"/*.deb
    cp "$package_dir"/libvirt-floor_*.deb "$debs" || return 0 # counted above
    host_pytest / "$debs" "$build_dir/package-results" test_package.py
    host_pytest / "$debs" "$build_dir/package-start" test_getting_started.py
    [[ ${VIRFLOOR_LONG:-} ]] || return 0
    check "it is the same when it is built elsewhere" builds_the_same
    check "a fresh Debian 12" logged "$log" make_fresh_host "$fresh"
    rm -rf "$debs-fresh"
    mkdir "$debs-fresh"
    cp -R "$debs"/{later,*.deb} "$debs-fresh"
    host_pytest "$fresh" "$debs-fresh" "$build_dir/package-results-fresh" test_package.py
    host_pytest "$fresh" "$debs-fresh" "$build_dir/package-start-fresh" test_getting_started.py
}

# in_machine PART SUITE: the tests of tests/PART, in a virtual machine with that release of Debian.
in_machine() {
    local part=$1 suite=$2
    headline "$part, $suite"
    need_root "test $part"
    local results=$build_dir/$part-$suite
    rm -rf "$results"
    guest_files || die "no kernel for guests"
    (build sandbox && "$python" -B tests/peer/machine.py "$suite" "$build_dir" "$results" 1800 \
        env "PYTEST_ADDOPTS=${PYTEST_ADDOPTS:-}" "$python" -m pytest -p no:cacheprovider \
        --junitxml=/results/junit.xml "/share/tests/$part") || true
    add_junit "$results/junit.xml"
}

# What needs Debian's kernel, and stock's tree as it is there.
test_peer() { in_machine peer bookworm; }

# libvirt's nftables backend, whose filters need Debian's kernel, too.
test_nftables() {
    in_machine nftables trixie
    [[ ! ${VIRFLOOR_LONG:-} ]] || in_machine nftables sid
}

# The pages: that they can be built, and that what they show is so.
test_docs() {
    headline "docs"
    check "the documentation builds without a warning, and its links lead somewhere" build_docs "$build_dir/docs"
    check "the pictures are those of their sources" "$python" -B tests/docs/pictures.py docs/pictures
    sandbox_pytest tests/docs
}

test_faults() {
    headline "faults"
    FAULT_REPORT=$fault_report sandbox_pytest tests/faults
}

# in_release SUITE HOW FOLDER ARGUMENT…: ./run in the root of a release, with that build folder.
in_release() {
    local suite=$1 how=$2 folder=$3
    shift 3
    setpriv --pdeathsig TERM tests/sandbox/other-root enter "$build_dir-$suite/root" "$PWD" "$build_dir-$suite" -- \
        env VIRFLOOR_ROOT="$how" BUILD_DIR="$folder" "$PWD/run" "$@"
}

# release_e2e SUITE HOW FOLDER SELECTION: empty for all tests.
release_e2e() {
    local suite=$1 how=$2 folder=$3 select=
    [[ ! $4 ]] || select="-k '${4//$'\n'/ }'"
    rm -f "$folder/e2e.xml"
    PYTEST_ADDOPTS="$select ${PYTEST_ADDOPTS:-}" in_release "$suite" "$how" "$folder" test e2e || true
    add_junit "$folder/e2e.xml"
}

# prepare_builds FOLDER: what the e2e tests want of a build, without what would make them build it again;
# and a kernel for the build that is made there.
prepare_builds() {
    mkdir -p "$1"/built-there "$1"/built-here/{src/plugin,tests/e2e} &&
        cp "$build_dir/src/plugin/$module" "$1/built-here/src/plugin" &&
        cp "$build_dir"/tests/e2e/*.so "$1/built-here/tests/e2e" &&
        cp -RT "$build_dir/po" "$1/built-here/po" &&
        cp -RT "$build_dir/guest" "$1/built-here/guest" &&
        cp -RT "$build_dir/guest" "$1/built-there/guest"
}

make_root() {
    local log=$build_dir-$1/root.log
    tests/sandbox/other-root make "$1" "$build_dir-$1/root" "${release_packages[@]}" >"$log" 2>&1 || { tail -n 20 "$log"; return 1; }
}

# Whether the libvirt of a release has the layouts that src/plugin takes for granted, by its source.
same_layouts() {
    local folder=$build_dir-$1/libvirt source=$2
    rm -rf "$folder"
    mkdir "$folder"
    tar --directory "$folder" --strip-components 1 --extract --file "$source" &&
        env PYTHONDONTWRITEBYTECODE=1 "$python" tests/layouts/compare.py "$folder"
}

# test_built_here SUITE SELECTION: with the module as it was built on this host.
test_built_here() {
    local suite=$1 selection=$2 folder=$build_dir-$1 source
    need_root "test $suite"
    headline "$suite: its root"
    mkdir -p "$folder"
    check "made, or there" make_root "$suite"
    source=$(compgen -G "$folder/root/usr/src/libvirt_*.orig.tar.xz" || true)
    if [[ $source ]]; then
        check "layouts are those of its libvirt's source" same_layouts "$suite" "$source"
    else
        echo "not compared: the mirror has no source of its libvirt"
    fi
    check "build" build sandbox
    guest_files || die "no kernel for guests"
    prepare_builds "$folder" || die "cannot copy the build"
    headline "$suite: e2e, built here"
    release_e2e "$suite" built "$folder/built-here" "$selection"
}

# test_release SUITE SELECTION: as it was built here, then built there.
test_release() {
    local suite=$1 selection=$2
    test_built_here "$suite" "$selection"
    headline "$suite: e2e, built there"
    release_e2e "$suite" build "$build_dir-$suite/built-there" "$selection"
}

test_released() { test_built_here trixie "$released_tests"; }
test_trixie() { test_release trixie ""; }
test_sid() {
    local selection=$released_tests
    [[ ! ${VIRFLOOR_LONG:-} ]] || selection=
    test_release sid "$selection"
}

# run_parts PART…: says what each took.
run_parts() {
    local part TIMEFORMAT
    for part in "$@"; do
        TIMEFORMAT="$part took %0R s"
        time "test_$part"
    done
}

declare -A lanes=()

# lane NAME NICENESS PART…
lane() {
    local name=$1 niceness=$2 passed=0 failed=0
    shift 2
    renice -n "$niceness" "$BASHPID" >/dev/null
    run_parts "$@"
    echo "$passed $failed" >"$build_dir/$name.counts"
}

# start_lane NAME NICENESS PART…: parts that run beside others.
start_lane() {
    rm -f "$build_dir/$1.counts"
    lane "$@" >"$build_dir/$1.log" 2>&1 </dev/null &
    lanes[$1]=$!
}

# join_lane NAME: waits for its end, shows what it said, and counts.
join_lane() {
    wait "${lanes[$1]}" || true
    cat "$build_dir/$1.log"
    # shellcheck disable=SC2046  # two numbers
    add_counts $(cat "$build_dir/$1.counts" || echo 0 1)
}

# All parts, in three lanes. What measures how soon something happens has the processors first.
test_all() {
    local short=("${short_parts[@]}")
    [[ ! ${VIRFLOOR_LONG:-} ]] || short=()
    setup_package "${package_test_packages[@]}" # not beside tests
    check "build" build sandbox
    check "a kernel for guests" guest_files # both lanes want it
    start_lane busy 19 "${busy_parts[@]}"
    start_lane other 5 "${short[@]}" "${other_parts[@]}"
    run_parts "${sandbox_parts[@]}" ${VIRFLOOR_LONG:+"${long_parts[@]}"}
    join_lane other
    join_lane busy
}

run_tests() {
    if [[ ${1:-} == --long ]]; then
        export VIRFLOOR_LONG=1
        shift
    fi
    local parts=("$@")
    check_parts "${test_parts[*]}" "${parts[@]}"
    [[ ${parts[*]} != faults ]] || parts=(fuzz faults) # they share a table
    setup
    mkdir -p "$build_dir"
    : >"$fault_report"
    if ((${#parts[@]})); then
        run_parts "${parts[@]}"
    else
        test_all
    fi
    if [[ -s $fault_report ]]; then
        headline "what was survived"
        "$python" tests/faults/report.py "$fault_report"
    fi
    printf '\n%d passed, %d failed\n' "$passed" "$failed"
    ((failed == 0 && passed > 0))
}
