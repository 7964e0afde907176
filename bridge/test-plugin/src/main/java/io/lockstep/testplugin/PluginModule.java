package io.lockstep.testplugin;

import static com.google.gerrit.server.project.ProjectResource.PROJECT_KIND;

import com.google.gerrit.extensions.restapi.RestApiModule;

/** {@code POST /projects/NAME/test-plugin~delete}. */
public final class PluginModule extends RestApiModule {
  @Override
  protected void configure() {
    post(PROJECT_KIND, "delete").to(DeleteProject.class);
  }
}
