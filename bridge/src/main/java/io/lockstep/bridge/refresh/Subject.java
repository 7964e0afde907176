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

package io.lockstep.bridge.refresh;

import com.google.gerrit.entities.Account;
import com.google.gerrit.entities.AccountGroup;
import com.google.gerrit.entities.BranchNameKey;
import com.google.gerrit.entities.Change;
import com.google.gerrit.entities.Project;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import org.eclipse.jgit.lib.ObjectId;

/**
 * What a refresh task speaks of: something of Gerrit whose refs have moved. An absent value is the
 * zero id.
 */
public sealed interface Subject {
  /** A project was created, deleted, or both. */
  record OfProject(Project.NameKey project, boolean deleted) implements Subject {}

  /** {@code refs/meta/config}. */
  record OfConfig(Project.NameKey project, Span span) implements Subject {}

  /** All changes of a project. */
  record OfChanges(Project.NameKey project) implements Subject {}

  /** One change. */
  record OfChange(Project.NameKey project, Change.Id change) implements Subject {}

  /** A branch. */
  record OfBranch(BranchNameKey branch) implements Subject {}

  /** An account. */
  record OfAccount(Account.Id account) implements Subject {}

  /** A group. */
  record OfGroup(AccountGroup.UUID group, Span span) implements Subject {}

  /** The names of groups. */
  record OfGroupNames(Span span) implements Subject {}

  /** By what accounts are known elsewhere. */
  record OfExternalIds(Span span) implements Subject {}

  /** From the value that was refreshed last to the latest one. */
  record Span(ObjectId old, ObjectId next) {}

  /**
   * Reads the fields of a task.
   *
   * @throws RuntimeException they are not what this bridge knows
   */
  static Subject read(JsonObject task) {
    String kind = text(task, "kind");
    return switch (kind) {
      case "project" -> new OfProject(project(task), task.get("deleted").getAsBoolean());
      case "project_config" -> new OfConfig(project(task), span(task));
      case "changes" -> new OfChanges(project(task));
      case "change" -> new OfChange(project(task), Change.id(task.get("number").getAsInt()));
      case "branch" -> new OfBranch(BranchNameKey.create(project(task), text(task, "ref")));
      case "account" -> new OfAccount(Account.id(task.get("account").getAsInt()));
      case "group" -> new OfGroup(AccountGroup.uuid(text(task, "group")), span(task));
      case "group_names" -> new OfGroupNames(span(task));
      case "external_ids" -> new OfExternalIds(span(task));
      default ->
          throw new IllegalArgumentException(
              "this bridge knows no tasks of kind " + kind + "; upgrade it");
    };
  }

  private static Project.NameKey project(JsonObject task) {
    return Project.nameKey(text(task, "project"));
  }

  private static String text(JsonObject task, String field) {
    return task.get(field).getAsString();
  }

  private static Span span(JsonObject task) {
    return new Span(value(task, "old"), value(task, "new"));
  }

  private static ObjectId value(JsonObject task, String field) {
    JsonElement value = task.get(field);
    return value == null || value.isJsonNull()
        ? ObjectId.zeroId()
        : ObjectId.fromString(value.getAsString());
  }
}
