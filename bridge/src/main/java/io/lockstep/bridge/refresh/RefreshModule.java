package io.lockstep.bridge.refresh;

import com.google.inject.AbstractModule;

/** Binds what refreshes this Gerrit. */
public final class RefreshModule extends AbstractModule {
  @Override
  protected void configure() {
    bind(Refresher.class).to(GerritRefresher.class);
  }
}
