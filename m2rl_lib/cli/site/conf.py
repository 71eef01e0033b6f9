"""Sphinx's settings of the book: myst-nb reads the executed notebooks, sphinx-book-theme shows them; nothing is fetched."""

extensions = ["myst_nb"]
html_theme = "sphinx_book_theme"
html_title = "Mix or merge?"
html_static_path = ["static"]
html_css_files = ["book.css"]
html_js_files = ["zoom.js"]
html_theme_options = {
    "home_page_in_toc": True,
    "show_navbar_depth": 1,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "pygments_light_style": "tango",
    "footer_content_items": [],
    "navbar_persistent": [],
}
html_copy_source = html_use_index = False
html_show_search_summary = False  # would fetch pages, which a browser refuses from disk
html_context = {"default_mode": "auto"}
html_favicon = "static/icon.svg"
html_permalinks = False
highlight_language = "none"
nb_execution_mode = "off"
nb_ipywidgets_js = {}
nb_merge_streams = True
nb_render_markdown_format = "gfm"
nb_code_prompt_show = nb_code_prompt_hide = "code"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# a notebook's headings start where its author likes
suppress_warnings = ["myst.header", "myst.xref_missing", "mystnb.unknown_mime_type"]
