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

package io.lockstep.bridge.git;

import com.google.gerrit.server.git.DelegateRepository;
import io.lockstep.bridge.sidecar.Sidecar;
import java.io.IOException;
import org.eclipse.jgit.lib.RefDatabase;
import org.eclipse.jgit.lib.RefRename;
import org.eclipse.jgit.lib.RefUpdate;
import org.eclipse.jgit.lib.Repository;

/**
 * A repository on the local disk whose refs the sidecar moves.
 *
 * <p>Gerrit's garbage collection unwraps one such layer, not two.
 */
public final class BridgeRepository extends DelegateRepository {
  private final BridgeRefDatabase refs;

  /**
   * Wraps an open repository. Closing the wrapper closes it.
   *
   * @param project the name by which the sidecar knows the project
   */
  public BridgeRepository(Repository local, String project, Sidecar sidecar) {
    super(local);
    this.refs =
        new BridgeRefDatabase(this, new ProjectRefs(project, sidecar, local.getRefDatabase()));
  }

  @Override
  public RefDatabase getRefDatabase() {
    return refs;
  }

  @Override
  public RefUpdate updateRef(String ref) throws IOException {
    return updateRef(ref, false);
  }

  @Override
  public RefUpdate updateRef(String ref, boolean detach) throws IOException {
    return refs.newUpdate(ref, detach);
  }

  @Override
  public RefRename renameRef(String from, String to) throws IOException {
    return refs.newRename(from, to);
  }

  @Override
  public void convertRefStorage(String format, boolean writeLogs, boolean backup)
      throws IOException {
    throw new IOException(
        "Lockstep keeps refs in files: the sidecar moves them, and reads no "
            + format
            + "; nothing was converted");
  }
}
