"""The four kinds of patches, as pure functions of documents.

    jsonpatch   RFC 6902            strategic   lists merge by keys of the schema, directives ($patch, ...)
    merge       RFC 7386            apply       server-side apply, on the field sets of `fieldset` and `managed`

None of them changes its arguments; results share what was not touched. What comes out is a document, not yet an
object: the API server decodes, defaults and validates it like every other body.
"""
