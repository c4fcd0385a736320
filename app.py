"""The Space's entry: `python app.py` opens the page. Everything else is in mmapp/."""

from mmapp.ui.interface import serve

if __name__ == "__main__":
    serve()
