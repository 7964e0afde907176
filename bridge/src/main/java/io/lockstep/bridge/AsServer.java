package io.lockstep.bridge;

import com.google.gerrit.server.util.ManualRequestContext;
import com.google.gerrit.server.util.OneOffRequestContext;
import com.google.inject.ImplementedBy;
import com.google.inject.Inject;

/** Does something as the server itself, with what Gerrit's loaders expect to find around a request of a user. */
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
