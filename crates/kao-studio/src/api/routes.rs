//! Routes that are registered with their descriptions.

use super::App;
use crate::openapi::Operation;
use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, on};
use std::sync::Arc;

/// Routes, and what they are.
#[derive(Default)]
pub struct Routes {
    router: Router<Arc<App>>,
    operations: Vec<Operation>,
}

impl Routes {
    /// Adds a route.
    pub fn add<T: 'static>(
        &mut self,
        operation: Operation,
        handler: impl Handler<T, Arc<App>>,
    ) -> &mut Self {
        let method = match operation.method {
            "post" => MethodFilter::POST,
            "delete" => MethodFilter::DELETE,
            _ => MethodFilter::GET,
        };
        let router = std::mem::take(&mut self.router);
        self.router = router.route(operation.path, on(method, handler));
        self.operations.push(operation);
        self
    }

    pub fn into_parts(self) -> (Router<Arc<App>>, Vec<Operation>) {
        (self.router, self.operations)
    }
}
