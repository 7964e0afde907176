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

/**
 * Does something as the server itself, with what Gerrit's loaders expect to find around a request
 * of a user.
 */
@ImplementedBy(AsServer.InRequest.class)
public interface AsServer {
  /** What is done. */
  interface Action<E extends Exception> {
    /** Does it. */
    void run() throws E;
  }

  /** Does it. */
  <E extends Exception> void run(Action<E> action) throws E;

  /** In a request of the server's own. */
  final class InRequest implements AsServer {
    private final OneOffRequestContext requests;

    @Inject
    InRequest(OneOffRequestContext requests) {
      this.requests = requests;
    }

    @Override
    public <E extends Exception> void run(Action<E> action) throws E {
      ManualRequestContext context = requests.open();
      try {
        action.run();
      } finally {
        context.close();
      }
    }
  }
}
