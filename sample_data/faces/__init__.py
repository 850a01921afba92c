"""Drawn talking faces: identities, controls from speech, and the pictures they make."""
