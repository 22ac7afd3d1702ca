extension Pipeline {
    static let presets = ["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"]

    /// Reads a stage's `parameters`, each within its range; what is not given keeps its default.
    static func parameters(_ kind: StageKind, _ fields: Fields) throws(PipelineError) -> StageParameters {
        var result = StageParameters()
        guard let given = try fields.optional("parameters") else { return result }
        for entry in try Fields(given.node, allowed: kind.parameterNames).entries {
            let value = entry.value
            switch (kind, entry.key) {
            case (_, "loudness_lufs"): result.loudnessLUFS = try value.number(in: -70 ... -5, whole: false)
            case (_, "true_peak_db"): result.truePeakDB = try value.number(in: -20...0, whole: false)
            case (_, "channels"): result.channels = Int(try value.number(in: 1...2, whole: true))
            case (_, "audio_bitrate"): result.audioBitrate = Int(try value.number(in: 16_000...512_000, whole: true))
            case (.thumbnail, "width"): result.thumbnailWidth = try even(value, in: 64...3840)
            case (_, "width"): result.width = try even(value, in: 64...3840)
            case (_, "height"): result.height = try even(value, in: 64...2160)
            case (_, "frame_rate"): result.frameRate = Int(try value.number(in: 1...60, whole: true))
            case (_, "preset"):
                guard presets.contains(value.text) else { throw value.fault("unknown preset '\(value.text)'", "one of: " + presets.joined(separator: ", ")) }
                result.preset = value.text
            case (_, "constant_rate_factor"): result.constantRateFactor = try value.number(in: 0...51, whole: false)
            case (_, "threads"): result.threads = Int(try value.number(in: 1...64, whole: true))
            case (_, "part_seconds"): result.partSeconds = Int(try value.number(in: 0...86_400, whole: true))
            case (_, "hold_seconds"): result.holdSeconds = try value.number(in: 0...3600, whole: false)
            case (_, "peaks_per_second"): result.peaksPerSecond = Int(try value.number(in: 1...1000, whole: true))
            case (_, "at"): result.thumbnailAt = try value.number(in: 0...1, whole: false)
            default: preconditionFailure("parameter \(entry.key) is listed and not read")
            }
        }
        return result
    }

    /// H.264 in 4:2:0 has no odd sizes.
    private static func even(_ value: Value, in range: ClosedRange<Double>) throws(PipelineError) -> Int {
        let number = Int(try value.number(in: range, whole: true))
        guard number.isMultiple(of: 2) else { throw value.fault("\(number) is odd", "H.264 pictures have even sizes") }
        return number
    }
}
