package io.lockstep.bridge;

import com.google.gerrit.server.git.DelegateRepository;
import io.lockstep.bridge.git.BridgeRepository;
import java.util.Collection;
import java.util.Optional;
import org.eclipse.jgit.lib.Repository;
import org.eclipse.jgit.transport.PostReceiveHook;
import org.eclipse.jgit.transport.ReceiveCommand;
import org.eclipse.jgit.transport.ReceivePack;

/**
 * Tells who pushes why it did not work. Gerrit says "internal error" to a push that ended in an exception, whatever its
 * text; this hook runs after every push, on the handle of the repository that the push was given.
 */
final class PushNotice implements PostReceiveHook {
  @Override
  public void onPostReceive(ReceivePack push, Collection<ReceiveCommand> commands) {
    bridged(push.getRepository()).flatMap(BridgeRepository::trouble).ifPresent(push::sendMessage);
  }

  /** Gerrit hands a push its repository behind a layer that hides what the user may not see. */
  private static Optional<BridgeRepository> bridged(Repository repository) {
    Repository inner = repository;
    while (inner instanceof DelegateRepository layer) {
      if (layer instanceof BridgeRepository found) {
        return Optional.of(found);
      }
      inner = layer.delegate();
    }
    return Optional.empty();
  }
}
