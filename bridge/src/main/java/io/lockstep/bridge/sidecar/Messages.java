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

package io.lockstep.bridge.sidecar;

import com.google.gson.annotations.SerializedName;
import java.util.List;

/** Requests and responses of the bridge API about projects and refs, as in docs/openapi.json. */
final class Messages {
  private Messages() {}

  /**
   * {@code RefTransactionRequest}: commands on the refs of one project. The message may be null.
   */
  record RefTransaction(
      String requestId,
      boolean atomic,
      String actor,
      String message,
      List<Command> commands,
      long deadlineMs) {
    RefTransaction withDeadline(long millis) {
      return new RefTransaction(requestId, atomic, actor, message, commands, Math.max(1, millis));
    }
  }

  /** One command of a ref transaction. A null {@code next} deletes the ref. */
  record Command(String ref, String old, @SerializedName("new") String next, boolean force) {
    static Command of(RefCommand command) {
      return new Command(
          command.ref(),
          command.isCreation() ? "absent" : command.old().name(),
          command.isDeletion() ? null : command.next().name(),
          true);
    }
  }

  /** Creates a project, or moves its {@code HEAD}. */
  record Head(String requestId, String head) {}

  /** Deletes a project. The request id makes a repeated call the same deletion. */
  record Deletion(String requestId) {}

  /**
   * {@code RefTransactionResponse}: one result per command, in their order.
   *
   * @param txn the transaction that was committed, or is in doubt; null if there is none
   */
  record Batch(String txn, List<Result> results) {}

  /** The outcome of one command, or a {@code ProjectResponse}. */
  record Result(String outcome, Refusal refusal) {}

  /** The part of {@code NodeStatus} that the bridge reads. */
  record Status(String role) {}

  /** Why a command was refused, or why its outcome is unknown. */
  record Refusal(String code, String message) {}

  /** The body of an answer with a status other than 200. */
  record Problem(String code, String message, Boolean retry) {}
}
