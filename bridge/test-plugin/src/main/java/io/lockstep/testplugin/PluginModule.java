package io.lockstep.testplugin;

import static com.google.gerrit.server.config.ConfigResource.CONFIG_KIND;
import static com.google.gerrit.server.project.ProjectResource.PROJECT_KIND;

import com.google.gerrit.extensions.restapi.RestApiModule;

/** {@code POST /projects/NAME/test-plugin~delete} and {@code GET /config/server/test-plugin~stale}. */
public final class PluginModule extends RestApiModule {
  @Override
  protected void configure() {
    post(PROJECT_KIND, "delete").to(DeleteProject.class);
    get(CONFIG_KIND, "stale").to(ListStale.class);
  }
}
