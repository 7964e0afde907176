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

import static java.util.Objects.requireNonNull;

import com.google.gerrit.entities.Account;
import com.google.gerrit.entities.AccountGroup;
import com.google.gerrit.entities.BranchNameKey;
import com.google.gerrit.entities.Change;
import com.google.gerrit.entities.Project;
import org.eclipse.jgit.lib.ObjectId;

/** The target of a refresh task: an entity of Gerrit whose refs have moved. */
public sealed interface RefreshTarget {
  /** A project that was created, deleted, or both. */
  record ProjectTarget(Project.NameKey project, boolean deleted) implements RefreshTarget {}

  /** The ref {@code refs/meta/config} of a project. */
  record ConfigTarget(Project.NameKey project, Span span) implements RefreshTarget {}

  /** All changes of a project. */
  record AllChangesTarget(Project.NameKey project) implements RefreshTarget {}

  /** The index document and the cached notes of one change. */
  record ChangeTarget(Project.NameKey project, Change.Id change) implements RefreshTarget {}

  /** A branch, on which the mergeability of its open changes depends. */
  record BranchTarget(BranchNameKey branch) implements RefreshTarget {}

  /** The index document and the cache entry of an account. */
  record AccountTarget(Account.Id account) implements RefreshTarget {}

  /** A group that Gerrit itself keeps, with the values of its ref. */
  record GroupTarget(AccountGroup.UUID group, Span span) implements RefreshTarget {}

  /** The names of groups. */
  record GroupNamesTarget(Span span) implements RefreshTarget {}

  /** The external ids of accounts. */
  record ExternalIdsTarget(Span span) implements RefreshTarget {}

  /** The value that was refreshed last, and the latest one. The zero id stands for "no ref". */
  record Span(ObjectId old, ObjectId next) {}

  /**
   * Reads the target of a task.
   *
   * @throws RuntimeException the kind is not known, or a field is missing
   */
  static RefreshTarget of(RefreshTask task) {
    return switch (requireNonNull(task.kind(), "kind")) {
      case "project" -> new ProjectTarget(project(task), requireNonNull(task.deleted(), "deleted"));
      case "project_config" -> new ConfigTarget(project(task), span(task));
      case "changes" -> new AllChangesTarget(project(task));
      case "change" ->
          new ChangeTarget(project(task), Change.id(requireNonNull(task.number(), "number")));
      case "branch" ->
          new BranchTarget(BranchNameKey.create(project(task), requireNonNull(task.ref(), "ref")));
      case "account" -> new AccountTarget(Account.id(requireNonNull(task.account(), "account")));
      case "group" ->
          new GroupTarget(AccountGroup.uuid(requireNonNull(task.group(), "group")), span(task));
      case "group_names" -> new GroupNamesTarget(span(task));
      case "external_ids" -> new ExternalIdsTarget(span(task));
      default ->
          throw new IllegalArgumentException(
              "this bridge knows no tasks of kind " + task.kind() + "; upgrade it");
    };
  }

  private static Project.NameKey project(RefreshTask task) {
    return Project.nameKey(requireNonNull(task.project(), "project"));
  }

  private static Span span(RefreshTask task) {
    return new Span(value(task.old()), value(task.next()));
  }

  private static ObjectId value(String name) {
    return name == null ? ObjectId.zeroId() : ObjectId.fromString(name);
  }
}
