"""The summary that suffices over SSH: what was found first, then the figures behind it.

One function from document to text; nothing is read, nothing is printed. It is right without colour and without Unicode, and the
widths are the caller's: from 60 columns on nothing wraps by accident.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sofa_otel.core.names import Severity
from sofa_otel.core.report import Breakdown, FindingItem, RankIterations, Report
from sofa_otel.dashboards.report import view
from sofa_otel.dashboards.report.terminal import Style, cells, cut, left, right, wrap

TOP_SWARMS = 8
TOP_RANKS = 8
_MARKS = {Severity.CRITICAL: "▲", Severity.WARNING: "◆", Severity.INFO: "●"}


def render_text(report: Report, *, width: int = 100, color: bool = False, ascii_only: bool = False) -> str:
    """The report as text.

    Args:
        report: The document.
        width: Columns of the terminal; fewer than 60 are drawn as 60, more than 140 as 140.
        color: Whether SGR colours may be used.
        ascii_only: Whether only ASCII may be used (bars of ``#``).
    """
    writer = _Writer(report, max(60, min(width, 140)), Style(color, ascii_only))
    return writer.style.finish(writer.lines())


class _Writer:
    """Lines of one report at one width."""

    def __init__(self, report: Report, width: int, style: Style) -> None:
        self.report, self.width, self.style = report, width, style
        self.captions = {swarm.id: view.clean(swarm.caption) for swarm in report.swarms}

    def lines(self) -> Iterable[str]:
        yield from self.head()
        yield from self.findings()
        yield from self.iterations()
        yield from self.time()
        yield from self.swarms()
        yield from self.stragglers()
        yield from self.collection()

    def title(self, name: str, note: str = "") -> Iterable[str]:
        yield ""
        room = self.width - cells(name) - 2
        yield self.style.bold(name) + ("  " + self.style.dim(cut(note, room)) if note else "")

    def head(self) -> Iterable[str]:
        run = self.report.run
        job = view.clean(run.job) or "job without a name"
        facts = [view.seconds(max(0, run.ended_ns - run.started_ns) / 1e9), view.exit_text(run.exit_code)]
        if run.world_size > 1:
            facts.insert(0, f"{len(run.ranks)} of {view.plural(run.world_size, 'rank')}")
        tail = " · ".join(facts)
        yield self.style.bold(cut(job, self.width - cells(tail) - 2)) + "  " + self.style.dim(tail)
        yield self.style.dim(cut(view.clean(" ".join(run.command)), self.width))

    def findings(self) -> Iterable[str]:
        found = self.report.findings
        yield from self.title("What it found")
        if not found:
            known = self.report.iterations.found
            why = view.verdict(self.report) if known else "Without iterations most rules cannot be checked."
            yield from wrap(f"no finding. {why}", self.width, "  ", "  ")
            return
        for finding in found:
            yield from self.finding(finding)

    def finding(self, finding: FindingItem) -> Iterable[str]:
        look, mark = view.SEVERITIES[finding.severity], _MARKS[finding.severity]
        where = f" [{finding.id}]" + (f" (rank {finding.rank})" if self.report.run.world_size > 1 else "")
        words = wrap(view.clean(finding.title) + where, self.width, " " * (len(look.label) + 5), "    ")
        words[0] = f"  {self.style.tint(f'{mark} {look.label}', look.dark)} " + self.style.bold(words[0][len(look.label) + 5 :])
        yield from words
        for sentence in finding.evidence:
            yield from wrap(view.clean(sentence), self.width, "    · ", "      ")
        if finding.suggestion:
            yield from wrap(view.clean(finding.suggestion), self.width, "    → ", "      ")
        if finding.predicted_gain:
            yield f"      predicted: {view.gain(finding.predicted_gain)}"

    def iterations(self) -> Iterable[str]:
        iterations = self.report.iterations
        if not iterations.found:
            yield from self.title("Iterations", "none found")
            yield from wrap(view.clean(iterations.reason) or "no reason was given", self.width, "  ", "  ")
            return
        noun = view.level_noun(iterations.level)
        sure = f"from {view.clean(iterations.source)}, {view.percent(iterations.confidence)} sure"
        yield from self.title("Iterations", sure)
        count, duration = view.plural(iterations.count, noun), iterations.duration_s
        if duration:
            typical = view.seconds(duration.median)
            spread = f"p10–p90 {view.seconds(duration.p10)} – {view.seconds(duration.p90)} · cv {view.percent(duration.cv)}"
            fits = cells(f"  {count}  median {typical}  {spread}") <= self.width
            yield f"  {self.style.bold(count)}  median {self.style.bold(typical)}" + (f"  {spread}" if fits else "")
            if not fits:
                yield f"  {spread}"
        else:
            yield f"  {self.style.bold(count)}"
        items = [item for item in iterations.items if item.end_ns > item.start_ns]
        if len(items) > 1:
            columns = min(len(items), self.width - 28)
            strip = self.style.spark([(item.end_ns - item.start_ns) / 1e9 for item in items], columns)
            note = f"slowest of each {-(-len(items) // columns)}" if len(items) > columns else "each one's time"
            yield f"  {self.style.tint(strip, view.BLUE[1])}  {self.style.dim(note)}"
        yield from wrap(self.odd_ones(), self.width, "  ", "  ")
        ranks = iterations.by_rank
        if len(ranks) > 1:
            yield from self.ranks(ranks)

    def odd_ones(self) -> str:
        iterations, noun = self.report.iterations, view.level_noun(self.report.iterations.level)
        slow = [item for item in iterations.items if item.anomalous]
        parts = [f"warm-up: {iterations.warmup}", f"unusually slow: {len(slow)}"]
        if slow:
            worst = max(slow, key=lambda item: item.end_ns - item.start_ns)
            size, usual = (worst.end_ns - worst.start_ns) / 1e9, view.median(self.report)
            times = f", {size / usual:.1f}x the median" if usual and size > 1.2 * usual else ""
            parts[-1] += f" (worst: {noun} {worst.index}, {view.seconds(size)}{times})"
        nest = [
            f"{view.plural(level.count, view.level_noun(level.name))} of {view.seconds(level.period_s)}"
            for level in iterations.levels
        ]
        if len(nest) > 1:
            parts.append("loops: " + ", ".join(nest))
        return " · ".join(parts)

    def ranks(self, ranks: list[RankIterations]) -> Iterable[str]:
        known = sorted(
            (rank for rank in ranks if rank.duration_s), key=lambda rank: -(rank.duration_s.median if rank.duration_s else 0)
        )
        lost = [rank for rank in ranks if not rank.duration_s]
        top = max((rank.duration_s.p90 for rank in known if rank.duration_s), default=1.0) or 1.0
        room = max(8, min(36, self.width - 60))
        shown = known[:TOP_RANKS]
        if len(known) > TOP_RANKS:
            yield self.style.dim(f"  slowest {TOP_RANKS} of {len(known)} ranks by median")
        for rank in shown:
            duration = rank.duration_s
            assert duration is not None
            bar = self.style.bar(duration.median / top, room, view.BLUE[1])
            figure = right(view.seconds(duration.median), 8)
            spread = f"{view.seconds(duration.p10)} – {view.seconds(duration.p90)}"
            count = view.plural(rank.count, view.level_noun(rank.level))
            yield f"  rank {rank.rank:<5}{bar} {figure}  {right(spread, 19)}" + (f"  {count}" if self.width >= 70 else "")
        for rank in lost[:TOP_RANKS]:
            yield from wrap(view.clean(rank.reason) or "no iterations found", self.width, f"  rank {rank.rank:<5}", " " * 12)

    def time(self) -> Iterable[str]:
        breakdown = self.report.breakdown
        if not breakdown.shares and not breakdown.phases:
            yield from self.title("Where the time goes", "not known: no iteration could be broken down")
            return
        step = self.report.iterations.duration_s
        noun = view.level_noun(self.report.iterations.level)
        yield from self.title(
            "Where the time goes", f"share of {view.seconds(breakdown.total_s)}" + (f", time in each {noun}" if step else "")
        )
        resources = {view.RESOURCES[key]: share for key, share in breakdown.shares.items()}
        whole = sum(breakdown.phases.values()) or 1.0
        phases = {view.PHASES[key]: value / whole for key, value in breakdown.phases.items()}
        each = step.mean if step else None
        if self.width >= 110 and resources and phases:
            half = (self.width - 4) // 2
            columns = [list(self.bars("by resource", resources, each, half)), list(self.bars("by phase", phases, each, half))]
            for row in range(max(map(len, columns))):
                cell = columns[0][row] if row < len(columns[0]) else ("", 0)
                other = columns[1][row][0] if row < len(columns[1]) else ""
                yield cell[0] + " " * (half + 2 - cell[1]) + other
        else:
            for name, part in (("by resource", resources), ("by phase", phases)):
                if part:
                    yield from (line for line, _ in self.bars(name, part, each, min(self.width, 96)))
        yield from self.why(breakdown)

    def bars(self, name: str, parts: Mapping[view.Look, float], each: float | None, width: int) -> Iterable[tuple[str, int]]:
        """Lines with their width in cells (colour codes count nothing)."""
        yield self.style.dim(f"  {name}"), cells(name) + 2
        names = max(cells(look.label) for look in parts)
        room = max(6, width - names - 22)
        for look, share in sorted(parts.items(), key=lambda item: -item[1]):
            if share <= 0:
                continue
            figure = right(view.seconds(share * each), 9) if each else ""
            bar = self.style.bar(share, room, look.dark)
            yield f"  {left(look.label, names)} {bar} {right(view.percent(share), 6)}{figure}", names + room + 10 + len(figure)

    def why(self, breakdown: Breakdown) -> Iterable[str]:
        if not breakdown.bottleneck:
            return
        look = view.RESOURCES[breakdown.bottleneck.class_]
        yield f"  bottleneck: {self.style.bold(look.label)}, {view.percent(breakdown.bottleneck.share)}"
        for sentence in breakdown.bottleneck.evidence:
            yield from wrap(view.clean(sentence), self.width, "    · ", "      ")

    def swarms(self) -> Iterable[str]:
        swarms = sorted(self.report.swarms, key=lambda swarm: -swarm.time_s)
        if not swarms:
            yield from self.title("Function swarms", "none: no function was seen often enough")
            return
        shown = [swarm for swarm in swarms if swarm.time_s > 0][:TOP_SWARMS] or swarms[:TOP_SWARMS]
        note = f"top {len(shown)} of {len(swarms)}" if len(swarms) > len(shown) else ""
        yield from self.title("Function swarms", note)
        wide = self.width >= 110
        bar, trace = (14, 16) if wide else (8, 0)
        room = self.width - 2 - bar - 1 - 7 - 10 - 9 - (trace + 2 if trace else 0) - 2
        header = f"  {left('', room)} {left('', bar)}{right('share', 7)}{right('each', 10)}{right('trend', 9)}"
        yield self.style.dim(header + ("  over the run" if trace else ""))
        top = max(swarm.share for swarm in swarms) or 1.0
        for swarm in shown:
            look = view.SWARM_KINDS[swarm.kind]
            line = f"  {left(self.captions[swarm.id], room)} {self.style.bar(swarm.share / top, bar, look.dark)}"
            line += right(view.percent(swarm.share), 7) + right(view.seconds(swarm.per_iteration_s), 10)
            line += right(view.trend(swarm), 9)
            yield line + (
                "  " + self.style.dim(self.style.spark(swarm.per_window_s, trace)) if trace and swarm.per_window_s else ""
            )

    def stragglers(self) -> Iterable[str]:
        found = sorted(self.report.stragglers, key=lambda item: -item.delay_s)
        if not found:
            return
        yield from self.title("Stragglers", "ranks that made the others wait")
        for item in found[:TOP_RANKS]:
            cause = f": {view.clean(item.cause)}" if item.cause else ""
            during = view.plural(item.iterations, "iteration")
            text = f"rank {item.rank} held the job up for {view.seconds(item.delay_s)} in {during}{cause}"
            yield from wrap(text, self.width, "  ", "    ")

    def collection(self) -> Iterable[str]:
        run = self.report.run
        ratio = f"step time {run.cost.step_ratio - 1:+.1%} · " if run.cost.step_ratio is not None else ""
        memory = f" · {view.quantity(run.cost.rss_bytes, 'By')} memory" if run.cost.rss_bytes else ""
        yield from self.title("What it cost", f"{ratio}{view.seconds(run.cost.cpu_s)} CPU{memory}")
        for item in run.collectors:
            lost = f", {item.dropped:,} lost" if item.dropped else ""
            text = f"{right(f'{item.events:,}', 12)} events{lost}, {view.seconds(item.cpu_s)} CPU"
            yield f"  {left(view.clean(item.name), 16)}{cut(text, self.width - 18)}"
        for warning in run.warnings:
            mark = self.style.tint("warning", view.AMBER[1])
            words = wrap(view.clean(warning), self.width, " " * 10, "    ")
            yield f"  {mark} {words[0][10:]}"
            yield from words[1:]
        yield from wrap(view.left_machine(run.endpoints), self.width, "  ", "  ")
