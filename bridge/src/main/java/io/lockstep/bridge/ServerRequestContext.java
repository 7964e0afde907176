// Copyright (C) 2026 The Lockstep Authors
//
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
// http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.

package io.lockstep.bridge;

import com.google.gerrit.server.util.ManualRequestContext;
import com.google.gerrit.server.util.OneOffRequestContext;
import com.google.inject.ImplementedBy;
import com.google.inject.Inject;

/** Runs an action as the server itself, in the request context that Gerrit's loaders expect. */
@ImplementedBy(ServerRequestContext.OneOff.class)
public interface ServerRequestContext {
  /** An action that needs a request context and may fail with one type of exception. */
  interface Action<E extends Exception> {
    void run() throws E;
  }

  /** Runs an action at once, on this thread. Its exception passes through. */
  <E extends Exception> void run(Action<E> action) throws E;

  /** Opens a context for each action. */
  final class OneOff implements ServerRequestContext {
    private final OneOffRequestContext contexts;

    @Inject
    OneOff(OneOffRequestContext contexts) {
      this.contexts = contexts;
    }

    @Override
    public <E extends Exception> void run(Action<E> action) throws E {
      ManualRequestContext context = contexts.open();
      try {
        action.run();
      } finally {
        context.close();
      }
    }
  }
}
