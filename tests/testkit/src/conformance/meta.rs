//! Conformance of the meta role.
