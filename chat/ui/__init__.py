"""The pages, the API, and what turns a receipt into HTML. The only room that imports gradio."""
