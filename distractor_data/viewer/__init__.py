"""Looking at things in a browser: one page that holds all it needs, or a server on this machine. Imported by nobody
below; the pages are Jinja2, CSS and plain JavaScript in `templates/`."""
