"""Looks: colours, type and the few rules of CSS that Gradio's theme has no word for."""

import gradio as gr

FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans CJK SC", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]

THEME = gr.themes.Default(
    primary_hue=gr.themes.colors.teal,
    secondary_hue=gr.themes.colors.teal,
    neutral_hue=gr.themes.colors.slate,
    radius_size=gr.themes.sizes.radius_md,
    font=FONT,
    font_mono=MONO,
).set(
    body_background_fill="*neutral_50",
    body_background_fill_dark="*neutral_950",
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_300",
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_300",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_600",
    button_primary_text_color="white",
    button_primary_text_color_dark="white",
)

CSS = """
.gradio-container { width: 100% !important; max-width: 1160px !important; margin: 0 auto !important; }
button[role="tab"].selected { color: var(--primary-700) !important; }
.dark button[role="tab"].selected { color: var(--primary-300) !important; }
.mm-head h1 { margin: 0; font-size: 1.5rem; letter-spacing: -0.02em; }
.mm-head p { margin: .1rem 0 0; color: var(--body-text-color-subdued); }
#try-image img { width: 100%; height: 100%; object-fit: contain; }
.mm { color: var(--body-text-color); font-size: .95rem; }
.mm h3 { margin: 0 0 .5rem; font-size: 1rem; font-weight: 600; }
.mm .quiet, .mm.quiet { color: var(--body-text-color-subdued); }
.mm-figures { display: flex; flex-wrap: wrap; gap: .75rem; }
.mm-figure { flex: 1 1 8.5rem; padding: .8rem 1rem; border: 1px solid var(--border-color-primary);
  border-radius: 10px; background: var(--background-fill-primary); }
.mm-figure b { display: block; font-size: 1.5rem; font-weight: 650; font-variant-numeric: tabular-nums;
  line-height: 1.25; }
.mm-figure span { color: var(--body-text-color-subdued); font-size: .85rem; }
.mm-cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.2rem, 1fr));
  gap: .75rem; }
.mm-card { border: 1px solid var(--border-color-primary); border-radius: 10px; overflow: hidden;
  background: var(--background-fill-primary); display: flex; flex-direction: column; }
.mm-card img, .mm-card .none { width: 100%; height: 7rem; object-fit: contain; display: block;
  background: var(--background-fill-secondary); }
.mm-card .none { display: grid; place-items: center; color: var(--body-text-color-subdued); }
.mm-card p { margin: 0; padding: .5rem .65rem; font-size: .85rem; line-height: 1.35; flex: 1;
  overflow-wrap: anywhere; }
.mm-card footer { padding: 0 .65rem .6rem; display: flex; gap: .4rem; flex-wrap: wrap; }
.mm-chip { font-size: .78rem; padding: .1rem .5rem; border-radius: 99px; overflow-wrap: anywhere;
  background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary); }
.mm-chip.label { background: var(--primary-700, #0f766e); border-color: transparent; color: #fff; }
.mm-bars { display: grid; grid-template-columns: minmax(4rem, max-content) 1fr max-content;
  gap: .3rem .7rem; align-items: center; font-variant-numeric: tabular-nums; }
.mm-bars .name { overflow-wrap: anywhere; max-width: 16rem; }
.mm-bars .track, .mm-progress { height: .6rem; border-radius: 99px; overflow: hidden;
  background: var(--border-color-primary); }
.mm-bars .track i, .mm-progress i { display: block; height: 100%; border-radius: 99px;
  background: var(--primary-600, #0d9488); }
.mm-progress { height: .5rem; margin: .6rem 0 .2rem; }
.mm-progress i { transition: width .6s ease; }
.mm-status { display: flex; flex-wrap: wrap; gap: .2rem .8rem; align-items: baseline; }
.mm-status b { font-size: 1.1rem; }
.mm-table { overflow-x: auto; }
.mm-table table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
.mm-table table, .mm-table tbody, .mm-table tr, .mm-table th, .mm-table td { border: none !important; }
.mm-table th, .mm-table td { padding: .35rem .7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--border-color-primary) !important; }
.mm-table th { font-weight: 600; color: var(--body-text-color-subdued); font-size: .85rem; }
.mm-table td.words, .mm-table th.words { text-align: left; white-space: normal; min-width: 6rem;
  overflow-wrap: anywhere; }
.mm-confusion td.cell { text-align: center; min-width: 2.6rem; border: 2px solid transparent;
  background-clip: padding-box; border-radius: 6px; }
.mm-findings li { margin: .25rem 0; overflow-wrap: anywhere; }
.mm-findings .aside { color: #b42318; } .dark .mm-findings .aside { color: #fda29b; }
.mm-findings .warning { color: #93590a; } .dark .mm-findings .warning { color: #fdc866; }
.mm-findings ul { padding-left: 1.2rem; margin: .2rem 0 .8rem; }
.mm-error { padding: .7rem .9rem; border-radius: 10px; border: 1px solid #d92d20;
  overflow-wrap: anywhere; }
.mm-charts { display: grid;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1rem; }
.mm-chart { border: 1px solid var(--border-color-primary); border-radius: 10px;
  padding: .7rem .8rem .4rem;
  background: var(--background-fill-primary); }
.mm-chart svg { width: 100%; height: auto; display: block; }
.mm-chart text { fill: var(--body-text-color-subdued); font-size: 13px; }
.mm-legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .82rem; }
.mm-legend i { display: inline-block; width: 1rem; height: 3px; border-radius: 2px;
  vertical-align: middle;
  margin-right: .35rem; }
.mm-legend i.dot { width: .6rem; height: .6rem; border-radius: 99px; background: var(--mm-1); }
.mm-legend i.dot.hollow { background: none; border: 2px solid var(--mm-2); }
.mm-ranges svg { overflow: visible; }
.mm-ranges { display: grid; grid-template-columns: fit-content(45%) 1fr; column-gap: .6rem; }
.mm-ranges span { display: block; height: 28px; line-height: 28px; font-size: .85rem;
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
#comparison-shown .mm-table { margin-top: .6rem; }
#comparison-shown .mm-table :is(th, td) { white-space: normal; padding: .35rem .4rem;
  min-width: 4.5rem; }
#results-compare .mm-table { max-height: 24rem; overflow-y: auto; }
#results-compare td.words { min-width: 12rem; }
:root { --mm-1: #0d9488; --mm-2: #c2570c; --mm-faint: #94a3b8; }
.dark { --mm-1: #2dd4bf; --mm-2: #fb923c; --mm-faint: #64748b; }
@media (prefers-reduced-motion: reduce) { .mm-progress i { transition: none; } }
"""
