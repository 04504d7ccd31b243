"""Special pages of stages, found by looking: a module has `STAGES = {"name_of_the_stage": view}`, or `KINDS` by kind of stage.

A view is `view(request, here, run, entry) -> Response`; a StoreError of it is shown above the stage's generic page.
"""
