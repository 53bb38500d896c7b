//! Fakes of the meta role.
