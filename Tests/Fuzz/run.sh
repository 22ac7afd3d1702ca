#!/bin/bash
# run.sh SECONDS TARGET...: builds the fuzzers (libFuzzer, address sanitizer) and runs each for so long on its seeds. SECONDS 0: the seeds alone.
#
# The pure targets are compiled as modules of their own, the readers of files together with their fuzzer (of FFmpeg only what a source of bytes
# is). As many run at once as there are cores. What is found stays in .build/fuzz, with the inputs that led there.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
seconds=$1
shift
export SWIFT_BACKTRACE=enable=no
out=.build/fuzz
mkdir -p $out
flags=(-use-ld=lld -swift-version 6 -O -gline-tables-only -sanitize=fuzzer,address -parse-as-library -enable-upcoming-feature MemberImportVisibility -enable-upcoming-feature ExistentialAny -warnings-as-errors -I $out)

module() {
  local name=$1
  shift
  swiftc "${flags[@]}" -wmo -emit-module -emit-module-path $out/$name.swiftmodule -module-name $name -c "$@" -o $out/$name.o
}
for name in Media RTP Depacketize; do module $name $(find Sources/$name -name '*.swift'); done
module FFmpeg Sources/FFmpeg/MediaSource.swift

readers=(CaptureBytes CaptureFileReader FragmentAssembly IPAddress JanusReader JanusTrack LinkLayer PcapReader PcapngReader RTPDumpReader
         PayloadEvidence SessionFinder StreamFinder StreamFinder+Suggestions)
for target in "$@"; do
  files=(Tests/Fuzz/$target.swift)
  case $target in
    vp8|vp9|h264|h265|av1) files+=(Tests/Fuzz/Input.swift Tests/Fuzz/Pictures.swift) ;;
    sound|depacketizer) files+=(Tests/Fuzz/Input.swift) ;;
    matroska) files+=(Sources/Stages/MatroskaOutline.swift) ;;
    capture) for reader in "${readers[@]}"; do files+=(Sources/Tap/$reader.swift); done ;;
  esac
  swiftc "${flags[@]}" -wmo -module-name Fuzz "${files[@]}" $out/{Media,RTP,Depacketize,FFmpeg}.o -o $out/$target
done

run() {
  local target=$1 limit=-max_total_time=$2
  mkdir -p .build/fuzz/corpus/$target
  [ "$2" != 0 ] || limit=-runs=0
  if .build/fuzz/$target $limit -timeout=10 -rss_limit_mb=2048 -max_len=8192 -print_final_stats=1 -artifact_prefix=.build/fuzz/$target- \
      .build/fuzz/corpus/$target Tests/Fuzz/corpus/$target >.build/fuzz/$target.log 2>&1; then
    echo "$target: $(grep -oP 'number_of_executed_units: \K\d+' .build/fuzz/$target.log) inputs, $(grep -oP 'cov: \d+ ft: \d+' .build/fuzz/$target.log | tail -1), no finding"
  else
    echo "$target: FINDING, see .build/fuzz/$target.log and .build/fuzz/$target-*"
    return 1
  fi
}
export -f run
printf '%s\n' "$@" | xargs -P "$(nproc)" -I{} bash -c "run {} $seconds"
