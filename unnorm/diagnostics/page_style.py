"""The style and the one script of a report's page."""

import base64
import hashlib

STYLE = """
:root { color-scheme: light; --ink: #1d2126; --rule: #d9dde2; --soft: #f5f6f8; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial,
    sans-serif; }
.page { max-width: 78rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
main { min-width: 0; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; padding-top: 1rem;
  border-top: 1px solid var(--rule); overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; overflow-wrap: anywhere; }
p { margin: .6rem 0; overflow-wrap: anywhere; }
pre { overflow-x: auto; padding: .9rem 1.1rem; border-radius: 6px; background: var(--soft);
  font: 13.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
nav { font-size: .9rem; margin: 0 0 1rem; padding: .6rem .9rem; background: var(--soft);
  border-radius: 6px; }
nav ul { list-style: none; margin: 0; padding: 0; }
nav li { margin: .2rem 0; overflow-wrap: anywhere; } nav a { color: #005a8d; }
nav .mark { color: #b3261e; font-weight: 600; }
.wide { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .7rem; text-align: right; white-space: nowrap; vertical-align: top;
  border-bottom: 1px solid #eceef1; }
th { font-weight: 600; } thead th { border-bottom: 1.5px solid var(--ink); white-space: normal; }
tbody th { text-align: left; font-weight: 500; padding-left: 0; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .25rem 1.2rem;
  margin: .8rem 0; padding: .9rem 1.1rem; background: var(--soft); border-radius: 6px; }
dt { color: #4a5058; } dd { margin: 0; overflow-wrap: anywhere; }
figure { margin: .8rem 0; overflow-x: auto; } img { max-width: 100%; height: auto; display: block; }
.badge { display: inline-block; padding: .05em .55em; border-radius: .3em; color: #fff;
  font-size: .85rem; font-weight: 600; vertical-align: .12em; white-space: nowrap; }
.badge.good { background: #0b6e4f; } .badge.bad { background: #b3261e; }
ul.findings { list-style: none; margin: 1rem 0; padding: 0; }
ul.findings li { margin: .5rem 0; padding: .5rem .9rem;
  border-left-style: solid; border-left-width: 4px;
  border-radius: 0 4px 4px 0; overflow-wrap: anywhere; }
li.error { border-color: #b3261e; background: #fcefee; } li.error b { color: #8c1d18; }
li.warning { border-color: #c77700; background: #fff6e8; } li.warning b { color: #8a5200; }
li.note { border-color: #0072b2; background: #eef5fa; } li.note b { color: #005a8d; }
li span { display: block; color: #4a5058; }
details { margin: .8rem 0; border: 1px solid var(--rule); border-radius: 6px;
  padding: .5rem .9rem; }
summary { cursor: pointer; font-weight: 600; overflow-wrap: anywhere; }
button { font: inherit; font-size: .8rem; padding: .2rem .7rem; margin: 0 .4rem .3rem 0;
  border: 1px solid #8a8f96; border-radius: 4px; background: #fff; color: var(--ink);
  cursor: pointer; }
textarea { position: absolute; left: -200vw; width: 1px; height: 1px; }
@media (max-width: 34rem) {
  .page { padding: 1rem .8rem 3rem; } dl { grid-template-columns: 1fr; gap: 0; }
  img.large { min-width: 34rem; } dd { margin: 0 0 .4rem; }
  th, td { padding: .25rem .45rem; } table { font-size: .82rem; }
}
@media (min-width: 62rem) {
  .with-contents { display: grid; grid-template-columns: 13rem minmax(0, 1fr); gap: 2.2rem; }
  .with-contents nav { position: sticky; top: 1rem; align-self: start; max-height: 95vh;
    overflow-y: auto; }
  .beside { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 1.5rem;
    align-items: start; }
}
@media print { .page { max-width: none; padding: 0; } nav, button { display: none; }
  h2, figure, li { break-inside: avoid; } }
"""

# Copies the text of the hidden field beside a button; it reads no other part of the page.
SCRIPT = """
document.addEventListener("click", function (event) {
  var button = event.target;
  if (button.tagName !== "BUTTON" || !button.nextElementSibling) { return; }
  var field = button.nextElementSibling, label = button.textContent;
  field.select();
  var done = function () {
    button.textContent = "Copied";
    setTimeout(function () { button.textContent = label; }, 1200);
  };
  if (navigator.clipboard) {
    navigator.clipboard.writeText(field.value).then(done, function () {
      document.execCommand("copy"); done();
    });
  } else { document.execCommand("copy"); done(); }
  button.focus();
});
"""
_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
# No request leaves the page, and no script but this one runs, whatever the data hold.
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    f"script-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"
)

__all__ = ["POLICY", "SCRIPT", "STYLE"]
