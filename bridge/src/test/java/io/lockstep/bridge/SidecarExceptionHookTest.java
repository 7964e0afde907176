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

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gerrit.exceptions.StorageException;
import com.google.gerrit.git.GitUpdateFailureException;
import io.lockstep.bridge.sidecar.SidecarException;
import java.io.IOException;
import java.util.Optional;
import org.eclipse.jgit.internal.storage.dfs.DfsRepositoryDescription;
import org.eclipse.jgit.internal.storage.dfs.InMemoryRepository;
import org.eclipse.jgit.lib.BatchRefUpdate;
import org.eclipse.jgit.lib.ObjectId;
import org.eclipse.jgit.transport.ReceiveCommand;
import org.junit.jupiter.api.Test;

/** The message for the user when the sidecar did not commit. */
final class SidecarExceptionHookTest {
  private final SidecarExceptionHook hook = new SidecarExceptionHook();

  @Test
  void theSidecarsWordsReachTheUserFromAnyDepth() {
    Throwable thrown =
        new StorageException(new IOException(SidecarException.refused("this site is fenced")));
    assertEquals(Optional.of("Lockstep: this site is fenced"), hook.userMessage(thrown));
    assertEquals(503, hook.getStatus(thrown).orElseThrow().statusCode());
    assertEquals(Optional.of("lockstep_refused"), hook.formatCause(thrown));
    assertTrue(hook.skipRetryWithTrace("a", "b", thrown));
    assertFalse(hook.shouldRetry("a", "b", thrown));
  }

  @Test
  void aRejectedUpdateIsAConflictAndNoServerError() {
    Throwable thrown = new StorageException(SidecarException.rejected("choose another name"));
    assertEquals(Optional.of("Lockstep: choose another name"), hook.userMessage(thrown));
    assertEquals(409, hook.getStatus(thrown).orElseThrow().statusCode());
  }

  @Test
  void theReasonOfABatchReachesTheUser() {
    Throwable thrown = new StorageException(failed("Lockstep: this commit is malformed"));
    assertEquals(Optional.of("Lockstep: this commit is malformed"), hook.userMessage(thrown));
    assertEquals(409, hook.getStatus(thrown).orElseThrow().statusCode());
    assertTrue(hook.userMessage(failed("lock error")).isEmpty());
    assertTrue(hook.getStatus(failed(null)).isEmpty());
  }

  private static GitUpdateFailureException failed(String message) {
    ReceiveCommand command =
        new ReceiveCommand(ObjectId.zeroId(), ObjectId.fromString("1".repeat(40)), "refs/heads/x");
    command.setResult(ReceiveCommand.Result.REJECTED_OTHER_REASON, message);
    BatchRefUpdate batch =
        new InMemoryRepository(new DfsRepositoryDescription("p")).getRefDatabase().newBatchUpdate();
    return new GitUpdateFailureException("Update failed", batch.addCommand(command));
  }

  @Test
  void aForeignExceptionIsLeftAlone() {
    Throwable thrown = new StorageException("x");
    assertEquals(Optional.empty(), hook.userMessage(thrown));
    assertTrue(hook.getStatus(thrown).isEmpty());
    assertFalse(hook.skipRetryWithTrace("a", "b", thrown));
  }
}
