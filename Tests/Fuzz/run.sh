#!/bin/bash
# run.sh SECONDS TARGET...: builds the fuzzers (libFuzzer, address sanitizer) and runs each for so long on its seeds. SECONDS 0: the seeds alone.
#
# The pure targets are compiled as modules of their own, the capture readers together with their fuzzer. A finding stays in .build/fuzz.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
seconds=$1
shift
export SWIFT_BACKTRACE=enable=no
out=.build/fuzz
mkdir -p $out
flags=(-use-ld=lld -swift-version 6 -O -g -sanitize=fuzzer,address -parse-as-library -enable-upcoming-feature MemberImportVisibility -enable-upcoming-feature ExistentialAny -warnings-as-errors -I $out)

module() {
  local name=$1
  swiftc "${flags[@]}" -wmo -emit-module -emit-module-path $out/$name.swiftmodule -module-name $name -c $(find Sources/$name -name '*.swift') -o $out/$name.o
}
for name in Media RTP Depacketize; do module $name; done

readers=(CaptureBytes CaptureFileReader FragmentAssembly IPAddress JanusReader JanusTrack LinkLayer PcapReader PcapngReader RTPDumpReader
         PayloadEvidence SessionFinder StreamFinder StreamFinder+Suggestions)
for target in "$@"; do
  files=(Tests/Fuzz/$target.swift)
  case $target in
    vp8|vp9|h264|h265|av1) files+=(Tests/Fuzz/Input.swift Tests/Fuzz/Pictures.swift) ;;
    sound|depacketizer) files+=(Tests/Fuzz/Input.swift) ;;
    capture) for reader in "${readers[@]}"; do files+=(Sources/Tap/$reader.swift); done ;;
  esac
  swiftc "${flags[@]}" -wmo -module-name Fuzz "${files[@]}" $out/{Media,RTP,Depacketize}.o -o $out/$target
done

status=0
for target in "$@"; do
  mkdir -p $out/corpus/$target
  limit=(-max_total_time=$seconds)
  [ "$seconds" != 0 ] || limit=(-runs=0)
  if $out/$target "${limit[@]}" -timeout=10 -rss_limit_mb=2048 -max_len=8192 -print_final_stats=1 -artifact_prefix=$out/$target- \
      $out/corpus/$target Tests/Fuzz/corpus/$target >$out/$target.log 2>&1; then
    echo "$target: $(grep -oP 'number_of_executed_units: \K\d+' $out/$target.log) inputs, $(grep -oP 'cov: \d+ ft: \d+' $out/$target.log | tail -1), no finding"
  else
    echo "$target: FINDING, see $out/$target.log and $out/$target-*"
    status=1
  fi
done
exit $status
