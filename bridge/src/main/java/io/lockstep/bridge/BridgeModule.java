package io.lockstep.bridge;

import com.google.gerrit.extensions.registration.DynamicSet;
import com.google.gerrit.server.ExceptionHook;
import com.google.inject.AbstractModule;
import org.eclipse.jgit.transport.PostReceiveHook;

/** {@code gerrit.installModule}: what users see of the bridge. */
public final class BridgeModule extends AbstractModule {
  @Override
  protected void configure() {
    DynamicSet.bind(binder(), ExceptionHook.class).to(SidecarExceptionHook.class);
    DynamicSet.bind(binder(), PostReceiveHook.class).to(PushNotice.class);
  }
}
