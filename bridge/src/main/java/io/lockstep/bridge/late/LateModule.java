package io.lockstep.bridge.late;

import com.google.inject.AbstractModule;

/** Binds what fires in this Gerrit. */
public final class LateModule extends AbstractModule {
  @Override
  protected void configure() {
    bind(Firing.class).to(GerritFiring.class);
  }
}
