import CFFmpeg

/// Renders a line of text once, through libavfilter's drawtext (FreeType, fontconfig, fribidi).
public struct TextLabel: ~Copyable {
    public let frame: Frame
    /// Columns of the frame that the text needs.
    public let width: Int

    public static let font = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"

    /// A dark strip of at most `maxWidth` x `height` (both even) with white text, in planar 4:2:0.
    ///
    /// Text that does not fit ends in an ellipsis. It is handed over as an option value, never as part of a filter description.
    public init(_ text: String, maxWidth: Int, height: Int) throws(FFmpegError) {
        let size = Double(height) * 0.62
        let fits = max(1, Int(Double(maxWidth - 16) / (size * 0.62)))
        let oneLine = String(text.unicodeScalars.map { $0.properties.generalCategory == .control ? " " : Character($0) })
        let shown = oneLine.count > fits ? oneLine.prefix(max(0, fits - 1)) + "…" : oneLine[...]
        var graph = avfilter_graph_alloc()
        defer { avfilter_graph_free(&graph) }
        let color = try Self.filter(graph, "color", ["color": "0x1c1c1c", "size": "\(maxWidth)x\(height)", "rate": "1", "duration": "1"])
        let format = try Self.filter(graph, "format", ["pix_fmts": "yuv420p"])
        let draw = try Self.filter(graph, "drawtext", [
            "fontfile": Self.font, "text": String(shown), "expansion": "none", "fontcolor": "white", "fontsize": String(Int(size)), "x": "8", "y": "(h-text_h)/2",
        ])
        let sink = try Self.filter(graph, "buffersink", [:])
        try check(avfilter_link(color, 0, draw, 0), "avfilter_link")
        try check(avfilter_link(draw, 0, format, 0), "avfilter_link")
        try check(avfilter_link(format, 0, sink, 0), "avfilter_link")
        try check(avfilter_graph_config(graph, nil), "avfilter_graph_config")
        let frame = Frame()
        try check(av_buffersink_get_frame(sink, frame.raw), "av_buffersink_get_frame")
        width = min(maxWidth, (Self.extent(frame) + 8 + 1) / 2 * 2)
        self.frame = frame
    }

    /// The column behind the last bright pixel.
    private static func extent(_ frame: borrowing Frame) -> Int {
        var last = 8
        guard let luma = frame.raw.pointee.data.0 else { return last }
        for line in 0..<frame.height {
            for column in stride(from: frame.width - 1, to: last, by: -1) where luma[line * Int(frame.raw.pointee.linesize.0) + column] > 80 {
                last = column
                break
            }
        }
        return last
    }

    private static func filter(_ graph: UnsafeMutablePointer<AVFilterGraph>?, _ name: String, _ options: [String: String]) throws(FFmpegError) -> UnsafeMutablePointer<AVFilterContext> {
        guard let graph, let kind = avfilter_get_by_name(name), let made = avfilter_graph_alloc_filter(graph, kind, name) else {
            throw FFmpegError("the filter \(name) is not in this libavfilter", cffmpeg_error_io())
        }
        for (key, value) in options { try check(av_opt_set(made, key, value, AV_OPT_SEARCH_CHILDREN), "option \(key) of \(name)") }
        try check(avfilter_init_str(made, nil), "avfilter_init_str \(name)")
        return made
    }
}
