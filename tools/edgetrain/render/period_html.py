"""The report of a span of time as one page: no script, nothing from elsewhere, every text escaped."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from edgetrain.core.digest import short
from edgetrain.core.problem import shown
from edgetrain.render.period import SELF, TROUBLE, UNSEEN, Period, Section, heading, sections, total_rows, totals

LIMIT = 500
STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--dim:#5c6878;--line:#dde3ea;--ground:#fff;--card:#f6f8fa;
--alarm:#b42318;--warm:#9a6700;--well:#1a7f37}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--dim:#9aa7b4;--line:#30363d;
--ground:#0d1117;--card:#161b22;--alarm:#ff7b72;--warm:#e3b341;--well:#56d364}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--ground);max-width:80rem;margin:2rem auto;
padding:0 1.5rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.15rem;margin:2.4rem 0 .6rem}
p,.dim{color:var(--dim)}p{margin:.3rem 0}
.sums{display:grid;grid-template-columns:repeat(auto-fill,minmax(12rem,1fr));gap:.8rem;margin:1.6rem 0}
.sums div{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.8rem 1rem}
.sums dt{color:var(--dim);font-size:.82rem;line-height:1.3}
.sums dd{margin:.2rem 0 0;font-size:1.15rem;font-weight:600}
.sums .alarm dt{color:var(--dim);font-weight:400}.sums .alarm dd{color:var(--alarm)}
.notes{border-left:4px solid var(--warm);padding:.2rem 1rem;background:var(--card)}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:8px}
table{border-collapse:collapse;width:100%;font-size:.88rem}
th,td{text-align:left;vertical-align:top;padding:.45rem .7rem;border-bottom:1px solid var(--line);
overflow-wrap:break-word;min-width:5rem;max-width:26rem}
th{background:var(--card);font-weight:600;white-space:nowrap}tr:last-child td{border-bottom:0}
td:first-child{white-space:nowrap;color:var(--dim);font-variant-numeric:tabular-nums}
.alarm{color:var(--alarm);font-weight:600}.warm{color:var(--warm);font-weight:600}.well{color:var(--well)}
nav{margin:1rem 0;font-size:.9rem}nav a{margin-right:1rem;color:inherit}
footer{margin:3rem 0 1rem;color:var(--dim);font-size:.85rem}
@media print{body{max-width:none;margin:0;font-size:11px}nav{display:none}.scroll{border:0;overflow:visible}
h2{break-after:avoid}tr{break-inside:avoid}}
"""
ALARMS = {SELF, "rejected", "failed", "Rejected", "Failed", "ChecksNotPassed"}
WARM = {*UNSEEN, "lost", "cancelled", "advisory", "EgressAdvisory", "Waived"}


def period_html(found: Period) -> str:
    """The whole page."""
    title = _text(heading(found))
    tables = list(sections(found))
    lines = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        # Even if a text got through: a page that may load and run nothing.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{title}</title><style>{STYLE}</style></head><body>",
        f"<header><h1>{title}</h1><p>Read from git alone, at commit <code>{_text(short(found.commit))}</code>.",
        "A day begins at midnight UTC; the last day itself is not in it. Times are those that commits claim;",
        "the order is main's own.</p></header>",
    ]
    if found.notes:
        lines += ['<div class="notes">', *(f"<p>{_text(note)}</p>" for note in found.notes), "</div>"]
    lines += ['<dl class="sums">', *_sums(found), "</dl>", "<nav>"]
    lines += [f'<a href="#s{at}">{_text(one.title)} ({len(one.rows)})</a>' for at, one in enumerate(tables)]
    lines.append("</nav><main>")
    for at, section in enumerate(tables):
        lines += _section(at, section)
    lines.append("</main><footer>Made by edgetrain audit. What no record and no commit says is not in it.</footer>")
    lines.append("</body></html>\n")
    return "\n".join(lines)


def _sums(found: Period) -> Iterator[str]:
    sums = totals(found)
    troubled = {
        "approved by their own proposer": sums["selfApproved"],
        "without an approval that counts, or that is known": sums["withoutApproval"],
    }
    for name, text in total_rows(found):
        shade = ' class="alarm"' if troubled.get(name) else ""
        yield f"<div{shade}><dt>{_text(name)}</dt><dd>{_text(text)}</dd></div>"


def _section(at: int, section: Section) -> Iterator[str]:
    yield f'<section id="s{at}"><h2>{_text(section.title)}</h2>'
    if not section.rows:
        yield f"<p>{_text(section.empty)}</p></section>"
        return
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in section.head)
    yield f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>'
    for row in section.rows:
        yield f"<tr>{''.join(map(_cell, row))}</tr>"
    yield "</tbody></table></div></section>"


def _cell(text: str) -> str:
    shade = "alarm" if text in ALARMS else "warm" if text in WARM or text in TROUBLE else ""
    shade = "well" if text == "candidate" else shade
    return f'<td class="{shade}">{_text(text)}</td>' if shade else f"<td>{_text(text)}</td>"


def _text(text: str) -> str:
    return escape(shown(text, LIMIT), quote=True)
